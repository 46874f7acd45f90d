"""Which recipes are prepared, which are wanted so, and every version that was ever seen.

A version that somebody chose stays chosen over restarts. Knows no states and no jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from judo_edge.errors import StationError
from judo_edge.station.config import RecipeTable
from judo_edge.station.hub.crew import AWAY, Crew
from judo_edge.station.ledger import reading, writing
from judo_edge.station.ledger.ledger import Ledger
from judo_edge.station.results import Recipe

UNKNOWN, NOT_PREPARED = -11, -12
"""Numbers of the StationErrors for a recipe that the station has not, or that is not prepared."""
LAST = ""
"""Where the pins hold the name of the recipe that was prepared last: no recipe is called so."""
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
        self._num_resets = 0

    async def want_at_start(self) -> None:
        """Want the recipes marked `prepare`, each in the version that somebody chose, and last what was used last."""
        pins = await self._ledger.read(reading.pins)
        names = [table.id for table in self.tables.values() if table.prepare]
        if (last := pins.get(LAST, "")) in self.tables:
            names = [*(name for name in names if name != last), last]
        self.wanted = {name: pins.get(name, "") for name in names}

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
        """Return the prepared recipe that a trigger means; StationError when it is not prepared.

        A trigger that names none means the one that was prepared last, and no other where that one failed.
        """
        if external_id:
            self.known(external_id)
        found = self._prepared.get(external_id or next(reversed(self.wanted), ""))
        if found is None:
            names = ", ".join(self._prepared) or "none is"
            what = f"recipe {external_id!r} is not prepared" if external_id else "no recipe is prepared"
            raise StationError(what, f"a prepared recipe ({names})", "prepare it first", NOT_PREPARED)
        return found

    async def prepare(self, external_id: str, internal_id: str, is_last: bool) -> Recipe:
        """Make a version ready in the inspector and return it; with `is_last` it is the one that is used by default.

        Raises StationError also when all recipes were put away in the meantime.
        """
        self.known(external_id)
        async with self._lock:
            num_resets = self._num_resets
            found = await self._made_ready(external_id, internal_id)
            recipe = found.model_copy(update={"is_prepared": True})
            await self._ledger.write(writing.add_recipe, recipe)
            if num_resets != self._num_resets:
                raise StationError("all recipes were put away meanwhile", "a station at rest", "prepare it again")
            self._put(recipe, internal_id, is_last)
            return recipe

    async def _made_ready(self, external_id: str, internal_id: str) -> Recipe:
        judge = self._crew.needed_judge()
        try:
            with self._crew.judge_is_busy():
                return await asyncio.wait_for(judge.prepare(external_id, internal_id), PREPARE_SECONDS)
        except (TimeoutError, asyncio.TimeoutError):
            raise StationError("the inspector does not answer", "a recipe made ready", "see its log", AWAY) from None

    def _put(self, recipe: Recipe, internal_id: str, is_last: bool) -> None:
        """Note a prepared recipe; which one is used by default changes only when that is meant."""
        if is_last:
            self.wanted.pop(recipe.external_id, None)
        self.wanted[recipe.external_id] = internal_id
        self._prepared[recipe.external_id] = recipe
        self._prepared = {name: self._prepared[name] for name in self.wanted if name in self._prepared}

    async def choose(self, external_id: str, internal_id: str, is_last: bool) -> None:
        """Keep over restarts which version was chosen (empty: the newest), and which recipe was prepared last."""
        await self._ledger.write(writing.pin, external_id, internal_id)
        if is_last:
            await self._ledger.write(writing.pin, LAST, external_id)

    async def want_newest(self, external_id: str) -> None:
        """Want the newest version of a recipe, whatever was chosen before; one that is not wanted stays so."""
        if external_id in self.wanted:
            self.wanted[external_id] = ""
        await self.choose(external_id, "", is_last=False)

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
        self._num_resets += 1
        return tuple(one for name in list(self.tables) if (one := self.forget(name)))

    def drop(self, external_id: str) -> None:
        """Have a recipe not prepared, though it stays wanted."""
        self._prepared.pop(external_id, None)

    async def put_away(self, recipe: Recipe) -> None:
        """Let the inspector close a version that no prepared recipe is."""
        if self._crew.judge and all(one.internal_id != recipe.internal_id for one in self.prepared()):
            await self._crew.judge.unprepare(recipe.internal_id)

    async def versions(self) -> tuple[Recipe, ...]:
        """Return every version that was seen, newest first."""
        ready = {(one.external_id, one.internal_id) for one in self.prepared()}
        found = await self._ledger.read(reading.recipes)
        return tuple(
            one.model_copy(update={"is_prepared": (one.external_id, one.internal_id) in ready}) for one in found
        )
