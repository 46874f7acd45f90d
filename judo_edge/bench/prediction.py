"""What a part asks of a decoder, measured or assumed, and the prediction that `model` makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from judo_edge.bench.counting import PassKind
from judo_edge.bench.devices import Device, DeviceTable
from judo_edge.bench.model import (
    Cost,
    DecoderFacts,
    bound_on,
    decoder_from_bundle,
    published_seconds,
    seconds_on,
    tower_from_bundle,
)
from judo_edge.bench.report import Report, Row
from judo_edge.bundle import Bundle
from judo_edge.config import Frozen
from judo_edge.errors import ConfigError
from judo_edge.protocol.profile import load_profile, prompt_text
from judo_edge.protocol.questions import detection_question
from judo_edge.runtime.tokenizer import Tokenizer

_ASSUMED = re.compile(
    r"(?P<name>vision|prefill|verify|decode|tokens)=(?P<first>\d+(?:\.\d+)?)(?:(?P<sign>[+x])(?P<second>\d+(?:\.\d+)?))?"
)
_EXAMPLE = "vision=1,prefill=886+60,verify=32x1,decode=0,tokens=80"
_SIGNS = {"vision": None, "prefill": "+", "verify": "x", "decode": None, "tokens": None}


@dataclass(frozen=True)
class Passes:
    """Passes of one kind for one part."""

    kind: PassKind
    count: float
    new: float
    wanted: float
    kept: float


@dataclass(frozen=True)
class Part:
    """What one part asks for."""

    num_images: float
    """Photos encoded."""
    passes: tuple[Passes, ...]
    prompt_tokens: float
    tokens: float | None
    """Of the reply; None when not known."""


class Stage(Frozen):
    """One stage of the prediction."""

    stage: str
    per_part: float
    rows: float
    gigabytes: float
    """Of one pass, 10^9 bytes."""
    gigaoperations: float
    """Of one pass, 10^9 operations."""
    bound: str
    """`bandwidth` or `arithmetic`: what it waits for."""
    milliseconds: float
    """Of the part."""


class Held(Frozen):
    """A published figure and what the formula says of it."""

    device: str
    model: str
    what: str
    published_ms: float
    predicted_ms: float
    error: float
    """predicted / published - 1."""
    is_fitted: bool
    source: str


class Prediction(Frozen):
    """A part on a device that is not here."""

    predicted: bool = True
    """Always: nothing of this was measured on the device."""
    device: str
    bundle: str
    passes_from: str
    passes_per_part: float
    total_ms: float
    greedy_ms: float | None
    """Without drafts; None when the length of the reply is not known."""
    stages: tuple[Stage, ...]
    formula: tuple[Held, ...]


def predicted(bundle: Bundle, device: Device, table: DeviceTable, part: Part, passes_from: str) -> Prediction:
    """Return the prediction with the formula's error on published figures."""
    stages = tuple(_stages(bundle, device, part))
    return Prediction(
        device=device.name,
        bundle=bundle.manifest.name,
        passes_from=passes_from,
        passes_per_part=sum(entry.count for entry in part.passes),
        total_ms=sum(stage.milliseconds for stage in stages),
        greedy_ms=_greedy_ms(bundle, device, part),
        stages=stages,
        formula=held_figures(table),
    )


def held_figures(table: DeviceTable) -> tuple[Held, ...]:
    """Return every published figure of the table beside what the formula says."""
    figures = []
    for figure in table.published:
        milliseconds = published_seconds(table, figure) * 1e3
        error = milliseconds / figure.milliseconds - 1
        figures.append(
            Held(
                device=figure.device,
                model=f"{figure.model} {figure.weights}",
                what=figure.what,
                published_ms=figure.milliseconds,
                predicted_ms=milliseconds,
                error=error,
                is_fitted=bool(figure.fits),
                source=figure.source,
            )
        )
    return tuple(figures)


def prompt_tokens_of(bundle: Bundle) -> int:
    """Return the length of a bundle's prompt about two photos."""
    manifest = bundle.manifest
    profile = load_profile(bundle.path_of(manifest.profile))
    text = prompt_text(profile, detection_question(yes_first=True), _image_tokens(bundle))
    return int(Tokenizer.open(bundle.path_of(manifest.tokenizer)).ids_from_text(text).size)


def part_from_report(report: Report, bundle: Bundle) -> tuple[Part, str]:
    """Return what was measured, and where; another bundle's passes are moved to the length of this one's prompt."""
    row = next((row for row in report.rows if row.digest == bundle.digest), report.rows[0])
    part = _part_from_row(row)
    if row.digest == bundle.digest:
        return part, f"measured on this bundle, {report.setting.workload}"
    moved = _moved(part, prompt_tokens_of(bundle) - row.prompt_tokens)
    return moved, f"measured on {row.bundle}, {report.setting.workload}, moved to this prompt"


def part_from_text(text: str) -> Part:
    """Read assumptions such as `vision=1,prefill=886+60,verify=32x1,decode=0,tokens=80`; ConfigError.

    `prefill` is prompt and draft, `verify` rows and passes, `decode` passes, `tokens` the reply.
    """
    found: dict[str, tuple[float, float]] = {}
    for entry in text.split(","):
        match = _ASSUMED.fullmatch(entry.strip())
        if match is None or match["sign"] not in (None, _SIGNS[match["name"]]) or match["name"] in found:
            raise ConfigError(f"assumption {entry.strip()!r}", f"entries as in {_EXAMPLE}", "correct --assume")
        found[match["name"]] = (float(match["first"]), float(match["second"] or 0))
    if "prefill" not in found:
        raise ConfigError("assumptions without prefill", f"entries as in {_EXAMPLE}", "add prefill=PROMPT+DRAFT")
    return _part_from_assumed(found)


def _part_from_assumed(found: dict[str, tuple[float, float]]) -> Part:
    prompt, draft = found["prefill"]
    rows, count = found.get("verify", (0.0, 0.0))
    passes = (
        Passes(PassKind.PREFILL, 1, prompt + draft, draft + 1, 0),
        Passes(PassKind.VERIFY, count, rows, rows, prompt + draft),
        Passes(PassKind.DECODE, found.get("decode", (0.0, 0.0))[0], 1, 1, prompt + draft),
    )
    tokens = found["tokens"][0] if "tokens" in found else None
    return Part(found.get("vision", (1.0, 0.0))[0], tuple(entry for entry in passes if entry.count), prompt, tokens)


def _part_from_row(row: Row) -> Part:
    passes = tuple(
        Passes(PassKind(kind), one.per_part, one.rows, one.wanted, one.kept) for kind, one in row.passes.items()
    )
    return Part(row.vision_passes_per_part, passes, row.prompt_tokens, row.tokens_per_reply)


def _moved(part: Part, more: float) -> Part:
    """Return a part whose prompt is `more` tokens longer."""
    passes = tuple(
        replace(one, new=one.new + more) if one.kind is PassKind.PREFILL else replace(one, kept=one.kept + more)
        for one in part.passes
    )
    return replace(part, passes=passes, prompt_tokens=part.prompt_tokens + more)


def _stages(bundle: Bundle, device: Device, part: Part) -> Iterator[Stage]:
    decoder, tokens = decoder_from_bundle(bundle), _image_tokens(bundle)
    yield _stage("vision", device, tower_from_bundle(bundle).cost(tokens), part.num_images, tokens)
    for one in part.passes:
        yield _stage(one.kind.value, device, decoder.cost(one.new, one.wanted, one.kept), one.count, one.new)


def _stage(name: str, device: Device, cost: Cost, count: float, rows: float) -> Stage:
    return Stage(
        stage=name,
        per_part=count,
        rows=rows,
        gigabytes=cost.num_bytes * 1e-9,
        gigaoperations=cost.operations * 1e-9,
        bound=bound_on(device, cost),
        milliseconds=count * seconds_on(device, cost) * 1e3,
    )


def _greedy_ms(bundle: Bundle, device: Device, part: Part) -> float | None:
    if part.tokens is None:
        return None
    decoder, vision = decoder_from_bundle(bundle), tower_from_bundle(bundle).cost(_image_tokens(bundle))
    costs = [(part.num_images, vision), *_greedy_costs(decoder, part.prompt_tokens, part.tokens)]
    return 1e3 * sum(count * seconds_on(device, cost) for count, cost in costs)


def _greedy_costs(decoder: DecoderFacts, prompt: float, tokens: float) -> Sequence[tuple[float, Cost]]:
    """Return the pass over the prompt, and the passes of the other tokens at their mean length."""
    return (1, decoder.cost(prompt, 1, 0)), (max(0.0, tokens - 1), decoder.cost(1, 1, prompt + tokens / 2))


def _image_tokens(bundle: Bundle) -> int:
    model, pixels = bundle.manifest.model, bundle.manifest.preprocessing
    return int((pixels.image_size // (model.patch_size * model.spatial_merge_size)) ** 2)
