"""What other parts of a station hang into the hub: gates hold OK back, watchers look at results."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from judo_edge.station.results import Recipe, Result


class Gate(Protocol):
    """Decides whether the station may say OK."""

    def allows_ok(self, recipe: Recipe) -> str:
        """Return an empty text when a part judged by this recipe may be OK, else the reason in words."""
        ...

    def state(self, external_id: str) -> str:
        """Return `passed`, `pending`, `failed` or `none` of a prepared recipe, for the status."""
        ...


@runtime_checkable
class Challenger(Protocol):
    """A gate whose parts can be judged on request."""

    async def challenge(self, external_id: str) -> None:
        """Judge the challenge parts of a prepared recipe now; StationError for another."""
        ...


class Watcher(Protocol):
    """Looks at results after they were told; what it raises is logged and goes no further."""

    async def on_result(self, result: Result, recipe: Recipe | None) -> None:
        """Look at one result; `recipe` is None where none was ready."""
        ...
