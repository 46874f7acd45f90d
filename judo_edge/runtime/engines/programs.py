"""One TensorRT engine for each graph: which of its profiles a call fits, and execution contexts over shared scratch.

Written for the calls that TensorRT 10.3 to 11 and TensorRT for RTX have in common. Knows addresses and shapes; whose
memory they are and when work is captured, the backend knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from judo_edge.errors import EngineError
from judo_edge.plans.profiles import Profile, Shape, shapes_in
from judo_edge.runtime.engines.backend import Bound, Call

Limits = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
"""Input to its least and its greatest shape."""


class Program:
    """A deserialised engine."""

    def __init__(self, graph: str, engine: Any, limits: tuple[Limits, ...], log: Any, rebuild: str) -> None:
        """Take the engine and its profiles' limits in the plan's order.

        `log` keeps TensorRT's last error, `rebuild` is the command that makes the plan anew.
        """
        self.graph, self._engine, self._log = graph, engine, log
        self.rebuild = rebuild
        self.limits = limits
        # The tightest profile that holds a call is the one tuned for it.
        self._order = sorted(
            range(len(limits)), key=lambda index: sum(prod(high) for _, high in limits[index].values())
        )
        self.scratch_bytes = int(engine.device_memory_size_v2)

    def profile_of(self, inputs: Mapping[str, Bound]) -> int:
        """Return the profile that holds these shapes; EngineError names them when none does."""
        for index in self._order:
            if all(_holds(self.limits[index][name], bound.shape) for name, bound in inputs.items()):
                return index
        shapes = ", ".join(f"{name} {bound.shape}" for name, bound in inputs.items() if not name.startswith("past_"))
        action = f"{self.rebuild} with a larger --max-tokens"
        raise EngineError(f"{self.graph}: no profile for {shapes}", "a shape within the plan's profiles", action)

    def context(self, profile: int, stream: int, scratch: int, scratch_bytes: int, strategy: Any) -> Any:
        """Return a new execution context on a profile, with scratch memory that all contexts share."""
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise EngineError(f"{self.graph}: no execution context: {self._log.last}", "free memory", "close programs")
        if scratch_bytes:
            context.set_device_memory(scratch, scratch_bytes)
        self._must(context.set_optimization_profile_async(profile, stream), f"profile {profile}")
        return context

    def bind(self, context: Any, call: Call) -> None:
        """Set all shapes and addresses of a call."""
        for name, bound in call.inputs.items():
            self._must(context.set_input_shape(name, bound.shape), f"{name} of shape {bound.shape}")
        for name, bound in (*call.inputs.items(), *call.outputs.items()):
            self._must(context.set_tensor_address(name, bound.address), f"address of {name}")

    def queue(self, context: Any, stream: int) -> None:
        """Queue one run."""
        self._must(context.execute_async_v3(stream), "run")

    def _must(self, done: bool, what: str) -> None:
        if not done:
            raise EngineError(f"{self.graph}: {what}: {self._log.last}", "a pass that runs", f"{self.rebuild} --force")


def limits_from_profiles(
    profiles: tuple[Profile, ...], inputs: Mapping[str, Shape], dialect: str
) -> tuple[Limits, ...]:
    """Return each profile's least and greatest shapes."""
    shapes = (shapes_in(profile, inputs, dialect) for profile in profiles)
    return tuple({name: (low, high) for name, (low, _, high) in each.items()} for each in shapes)


def _holds(limits: tuple[tuple[int, ...], tuple[int, ...]], shape: tuple[int, ...]) -> bool:
    low, high = limits
    return len(shape) == len(low) and all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))
