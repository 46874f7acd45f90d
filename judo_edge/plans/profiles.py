"""Optimization profiles: for which sizes of a graph's dynamic axes a plan is tuned, and which of them fits a call.

One table for the builder and for the engine that runs the plan. Axes: B batch, S new positions, P past positions,
C cache capacity, R wanted rows, N images. Knows the inputs' names and what their axes mean; no TensorRT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from judo_edge.config import Frozen
from judo_edge.errors import BundleError, PlanError

ProfileName = Literal["prefill", "verify", "decode", "vision"]
Size = Annotated[int, Field(ge=0)]
Shape = tuple[int | str, ...]
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Shape of one input at the minimum, the optimum and the maximum."""

DEFAULT_TOKENS = 1536
"""Positions of prompt and reply together: JUDO's two-image prompt has about 886."""
_USUAL_PROMPT = 896
_PREFILL_ROWS = 128
_VERIFY = 64
"""Longest draft that one verifying pass reads; beyond that weight-only kernels cost more than they save."""
_IMAGES = 2

_AXES: Mapping[str, tuple[str, ...]] = {
    "pixel_values": ("N", "", ""),
    "inputs_embeds": ("B", "S", ""),
    "positions": ("", "B", "S"),
    "past": ("P", "", "", "B", "", ""),
    "rows": ("R",),
    "write": ("B",),
    "past_key": ("B", "", "C", ""),
    "past_value": ("B", "", "C", ""),
}
_MASKS: Mapping[str, tuple[str, ...]] = {"legacy": ("B", "", "S", "P+S"), "modern": ("B", "", "S", "C")}


class Range(Frozen):
    """Sizes of one axis: a plan accepts minimum to maximum and is tuned for the optimum."""

    minimum: Size
    optimum: Size
    maximum: Size

    def holds(self, size: int) -> bool:
        """Tell whether a size may be used."""
        return self.minimum <= size <= self.maximum

    def __add__(self, other: Range) -> Range:
        """Return the sizes of two axes joined into one."""
        return Range(
            minimum=self.minimum + other.minimum,
            optimum=self.optimum + other.optimum,
            maximum=self.maximum + other.maximum,
        )


class Profile(Frozen):
    """One optimization profile; its place in the plan's list is its index in the plan."""

    name: ProfileName
    axes: dict[str, Range]
    """Axis letter to its sizes."""

    def fits(self, **sizes: int) -> bool:
        """Tell whether a call with these sizes, e.g. `S=1, P=900`, may use this profile."""
        return all(self.axes[axis].holds(size) for axis, size in sizes.items() if axis in self.axes)

    def axis(self, text: str) -> Range:
        """Return the sizes of an axis or of two joined by `+`."""
        first, *others = (self.axes[letter] for letter in text.split("+"))
        for other in others:
            first = first + other
        return first


def vision_profiles() -> tuple[Profile, ...]:
    """Return the profile of the photos' tower: one photo, or a part and its reference at once."""
    return (Profile(name="vision", axes={"N": _sizes(1, 1, _IMAGES)}),)


def decoder_profiles(dialect: str, max_tokens: int = DEFAULT_TOKENS) -> tuple[Profile, ...]:
    """Return the profiles of a decoder graph: reading a prompt, verifying a draft, one step.

    The step's profile covers one or two positions on purpose: with exactly one, the builder gives up fusing int8
    weights into the product and writes them out as float16 on every call (measured with TensorRT for RTX 1.7.1). In the
    legacy dialect a prompt after more than half of `max_tokens` has to come in pieces that the verifying profile takes.
    Raises PlanError when `max_tokens` is too small.
    """
    if max_tokens < 2 * _VERIFY:
        raise PlanError(f"--max-tokens {max_tokens}", f"at least {2 * _VERIFY}", f"the usual is {DEFAULT_TOKENS}")
    usual = min(_USUAL_PROMPT, max_tokens)
    rows = min(_PREFILL_ROWS, max_tokens)
    stages: tuple[tuple[ProfileName, Range, Range, Range], ...] = (
        ("prefill", _sizes(1, usual, max_tokens), _sizes(1, 1, rows), _sizes(0, 0, max_tokens // 2)),
        ("verify", _sizes(2, _VERIFY // 2, _VERIFY), _sizes(1, _VERIFY // 2, _VERIFY), _sizes(0, usual, max_tokens)),
        ("decode", _sizes(1, 1, 2), _sizes(1, 1, 2), _sizes(0, usual, max_tokens)),
    )
    past = "P" if dialect == "legacy" else "C"
    full = _sizes(max_tokens, max_tokens, max_tokens)
    return tuple(
        Profile(name=name, axes={"B": _sizes(1, 1, 1), "S": s, "R": r, past: p if dialect == "legacy" else full})
        for name, s, r, p in stages
    )


def profiles_of(inputs: Mapping[str, Shape], dialect: str, max_tokens: int = DEFAULT_TOKENS) -> tuple[Profile, ...]:
    """Return the profiles of a graph by its inputs."""
    return vision_profiles() if "pixel_values" in inputs else decoder_profiles(dialect, max_tokens)


def shapes_in(profile: Profile, inputs: Mapping[str, Shape], dialect: str) -> dict[str, Shapes]:
    """Return each input's least, best and greatest shape in a profile; sizes that the graph fixes stay.

    Raises BundleError for an input that no rule describes.
    """
    return {name: _shapes(profile, name, shape, dialect) for name, shape in inputs.items()}


def fixed_sizes(inputs: Mapping[str, Shape], shapes: Sequence[Mapping[str, Shapes]]) -> dict[str, int]:
    """Return the named axes of a graph that have one and the same size in all of its profiles' shapes."""
    seen: dict[str, set[int]] = {}
    for given in shapes:
        for name, shape in inputs.items():
            for axis, size in enumerate(shape):
                if isinstance(size, str):
                    seen.setdefault(size, set()).update(sizes[axis] for sizes in given[name])
    return {name: sizes.pop() for name, sizes in seen.items() if len(sizes) == 1}


def _shapes(profile: Profile, name: str, shape: Shape, dialect: str) -> Shapes:
    roles = _MASKS.get(dialect) if name == "mask" else _AXES.get(name) or _AXES.get(name.rpartition("_")[0])
    if roles is None or len(roles) != len(shape):
        raise BundleError(f"graph input {name} with shape {shape} is not known", action="export the bundle again")
    columns = [_column(profile, name, size, role) for size, role in zip(shape, roles, strict=True)]
    least, best, greatest = zip(*columns, strict=True)
    return least, best, greatest


def _column(profile: Profile, name: str, size: int | str, role: str) -> tuple[int, int, int]:
    if isinstance(size, int):
        return size, size, size
    if not role:
        raise BundleError(f"graph input {name} has a dynamic axis {size!r}", "a fixed size", "export the bundle again")
    sizes = profile.axis(role)
    return sizes.minimum, sizes.optimum, sizes.maximum


def _sizes(minimum: int, optimum: int, maximum: int) -> Range:
    return Range(minimum=minimum, optimum=optimum, maximum=maximum)
