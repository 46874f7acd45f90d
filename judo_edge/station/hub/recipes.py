"""Which recipes are prepared, which are wanted so, and every version that was ever seen.

A version that somebody chose stays chosen over restarts. Knows no states and no jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from judo_edge.errors import StationError
from judo_edge.station.config import RecipeTable
from judo_edge.station.hub.crew import AWAY, Crew
from judo_edge.station.ledger import reading, writing
from judo_edge.station.ledger.ledger import Ledger
from judo_edge.station.results import Recipe

UNKNOWN, NOT_PREPARED = -11, -12
"""Numbers of the StationErrors for a recipe that the station has not, or that is not prepared."""
PREPARE_SECONDS = 900.0
"""How long the inspector may take to open a bundle and warm up."""


class RecipeBook:
    """The recipes of a station."""

    def __init__(self, tables: Sequence[RecipeTable], crew: Crew, ledger: Ledger) -> None:
        """Take the recipes of STATION.toml; nothing is prepared."""
        self.tables = {table.id: table for table in tables}
        self._crew, self._ledger = crew, ledger
        self._prepared: dict[str, Recipe] = {}
        self.wanted: dict[str, str] = {}
        """Internal by external id of what is to be prepared whenever an inspector comes."""
        self._lock = asyncio.Lock()

    async def want_at_start(self) -> None:
        """Want the recipes marked `prepare`, each in the version that somebody chose last."""
        pins = await self._ledger.read(reading.pins)
        self.wanted = {table.id: pins.get(table.id, "") for table in self.tables.values() if table.prepare}

    def prepared(self) -> tuple[Recipe, ...]:
        """Return the prepared recipes; the last one is used by a trigger that names none."""
        return tuple(self._prepared.values())

    def known(self, external_id: str) -> RecipeTable:
        """Return a recipe's table; StationError when the station has none of that name."""
        if external_id not in self.tables:
            wanted = f"one of {', '.join(self.tables)}"
            raise StationError(f"recipe {external_id!r}", wanted, "see STATION.toml", UNKNOWN)
        return self.tables[external_id]

    def for_job(self, external_id: str) -> Recipe:
        """Return the prepared recipe that a trigger means; StationError when there is none."""
        if external_id:
            self.known(external_id)
        found = self._prepared.get(external_id) if external_id else next(reversed(self._prepared.values()), None)
        if found is None:
            names = ", ".join(self._prepared) or "none is"
            what = f"recipe {external_id!r} is not prepared" if external_id else "no recipe is prepared"
            raise StationError(what, f"a prepared recipe ({names})", "prepare it first", NOT_PREPARED)
        return found

    async def prepare(self, external_id: str, internal_id: str = "") -> Recipe:
        """Make a version ready in the inspector and return it; it becomes the one that is used by default."""
        self.known(external_id)
        async with self._lock:
            judge = self._crew.needed_judge()
            try:
                with self._crew.judge_is_busy():
                    found = await asyncio.wait_for(judge.prepare(external_id, internal_id), PREPARE_SECONDS)
            except (TimeoutError, asyncio.TimeoutError):
                raise StationError(
                    "the inspector does not answer", "a recipe made ready", "see its log", AWAY
                ) from None
            recipe = found.model_copy(update={"is_prepared": True})
            await self._ledger.write(writing.add_recipe, recipe)
            self._prepared.pop(external_id, None)
            self._prepared[external_id] = recipe
            self.wanted[external_id] = internal_id
            return recipe

    async def choose(self, external_id: str, internal_id: str) -> None:
        """Keep a chosen version over restarts; an empty internal id stands for the newest."""
        await self._ledger.write(writing.pin, external_id, internal_id)

    async def unprepare(self, external_id: str) -> Recipe:
        """Put a recipe away and return it; StationError when it is not prepared."""
        self.known(external_id)
        recipe = self.for_job(external_id)
        self.forget(external_id)
        return recipe.model_copy(update={"is_prepared": False})

    def forget(self, external_id: str) -> Recipe | None:
        """Have a recipe neither prepared nor wanted."""
        self.wanted.pop(external_id, None)
        return self._prepared.pop(external_id, None)

    def forget_all(self) -> tuple[Recipe, ...]:
        """Have no recipe prepared or wanted; returns those that were."""
        return tuple(one for name in list(self.tables) if (one := self.forget(name)))

    def drop(self, external_id: str) -> None:
        """Have a recipe not prepared, though it stays wanted."""
        self._prepared.pop(external_id, None)

    async def put_away(self, recipe: Recipe) -> None:
        """Let the inspector close a version that no prepared recipe is."""
        if self._crew.judge and all(one.internal_id != recipe.internal_id for one in self.prepared()):
            await self._crew.judge.unprepare(recipe.internal_id)

    async def versions(self, is_prepared: Callable[[Recipe], bool] | None = None) -> tuple[Recipe, ...]:
        """Return every version that was seen, newest first."""
        ready = {(one.external_id, one.internal_id) for one in self.prepared()}
        found = await self._ledger.read(reading.recipes)
        return tuple(
            one.model_copy(update={"is_prepared": (one.external_id, one.internal_id) in ready}) for one in found
        )
