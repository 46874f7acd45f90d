"""Recipes made ready: a version's bundle, references and decision over an engine that stays open.

`plan` reads and verifies what is on the disk, `make_ready` works with the engine; they may run in different threads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from judo_edge.bundle import Bundle
from judo_edge.bundle.acceptance import check_accepted
from judo_edge.core import Decision, Frame
from judo_edge.errors import EngineError, JudoEdgeError, StationError, first_line
from judo_edge.runtime.decider import Decider
from judo_edge.runtime.decisions import DecisionStore, applicable_decision, circumstances_of
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.references import ReferenceStore
from judo_edge.station.config import RecipeTable, StationConfig
from judo_edge.station.judge.bundles import bundle_by_digest, current_bundle, name_of_bundle
from judo_edge.station.judge.pinned import PinnedDecisions, PinnedStore
from judo_edge.station.judge.signing import verified_signer
from judo_edge.station.judge.versions import FOLDER, Version, VersionShelf, recipe_from_record
from judo_edge.station.results import Code, Recipe

EngineOf = Callable[[Bundle, str, int], Engine]
"""From a bundle, the engine's name and its number of threads to an engine that is not yet entered."""
MAX_PREPARED = 16
"""Versions that stay ready; one more puts away the one that was prepared longest ago."""

_log = logging.getLogger(__name__)


class Plan(NamedTuple):
    """A version whose pieces are all there and verified."""

    recipe: Recipe
    version: Version
    bundle: Bundle
    table: RecipeTable
    store: PinnedStore
    decisions: PinnedDecisions


@dataclass(frozen=True)
class Prepared:
    """A recipe that frames can be judged by."""

    recipe: Recipe
    inspector: Inspector
    engine_key: str


class Preparer:
    """Finds what a version of a recipe needs."""

    def __init__(self, config: StationConfig) -> None:
        """Read nothing yet."""
        self._config = config
        self._store, self._decisions = ReferenceStore(config.store), DecisionStore(config.store)
        self._shelf = VersionShelf(config.data / FOLDER)

    def plan(self, external_id: str, internal_id: str = "") -> Plan:
        """Return the newest version of a recipe, or an earlier one exactly as it was; it is on the disk then.

        StationError says which piece is missing; BundleError when the bundle was changed, failed a gate that is not
        accepted, or its signature does not hold.
        """
        table = self._table(external_id)
        version, bundle = self._earlier(table, internal_id) if internal_id else self._newest(table)
        check_accepted(bundle, table.accept_failed)
        signer = verified_signer(bundle, self._config.path(table.public_key)) if table.public_key else ""
        store, decisions = PinnedStore(self._store, version), PinnedDecisions(self._decisions, version)
        record = self._shelf.keep(version, bundle.folder)
        recipe = recipe_from_record(record, external_id, name_of_bundle(self._config, table, bundle), signer)
        return Plan(recipe, version, bundle, table, store, decisions)

    def part_of(self, internal_id: str) -> str:
        """Return the part that a version judges; StationError when it is not known."""
        return self._shelf.read(internal_id).version.part

    def _table(self, external_id: str) -> RecipeTable:
        tables = {one.id: one for one in self._config.recipes}
        if external_id not in tables:
            raise StationError(f"no recipe {external_id!r}", f"one of {', '.join(tables)}", "check its id")
        return tables[external_id]

    def _newest(self, table: RecipeTable) -> tuple[Version, Bundle]:
        bundle, engine = current_bundle(self._config, table), self._config.station.engine
        used = [one.reference_id for one in self._store.references(table.part)]
        if not used:
            found = f"no reference of part {table.part!r} in {self._store.folder}"
            enroll = f"judo-edge enroll --part {table.part} --store {self._store.folder} GOOD_PHOTOS"
            raise StationError(found, "at least one good part", enroll)
        decision, note = applicable_decision(self._decisions, table.part, circumstances_of(bundle, engine, used))
        if note:
            _log.warning("recipe %s: %s", table.id, note)
        version = Version(
            part=table.part,
            bundle_digest=bundle.subject_digest,
            engine=engine,
            reference_ids=tuple(sorted(used)),
            decision_version=decision.version if decision else None,
            decision_digest=decision.digest if decision else "",
            settings=self._store.recipe(table.part),
        )
        return version, bundle

    def _earlier(self, table: RecipeTable, internal_id: str) -> tuple[Version, Bundle]:
        record = self._shelf.read(internal_id)
        version = record.version
        if version.part != table.part:
            found = f"version {internal_id} judges part {version.part!r}"
            raise StationError(found, f"a version for part {table.part!r}", "check the recipe's id")
        if version.engine != self._config.station.engine:
            found = f"version {internal_id} was made with engine {version.engine!r}"
            raise StationError(found, self._config.station.engine, "set the station's engine, or prepare the newest")
        named = (folder for one in reversed(self._shelf.records()) for folder in reversed(one.folders))
        folders = (*reversed(record.folders), *named)
        return version, bundle_by_digest(self._config, table, version.bundle_digest, folders)


class Bench:
    """Engines that are open and the recipes that are ready on them. Used from one thread."""

    def __init__(self, config: StationConfig, engine_of: EngineOf = engine_from_bundle) -> None:
        """Open nothing yet; `engine_of` makes the engine of a bundle."""
        self._config, self._engine_of = config, engine_of
        self._engines: dict[str, Engine] = {}
        self._prepared: dict[str, Prepared] = {}

    def make_ready(self, plan: Plan) -> Recipe:
        """Open what a plan needs and compare a reference with itself; a version that is ready stays as it is.

        StationError when the comparison fails, EngineError when the engine cannot be opened.
        """
        key, internal_id = plan.bundle.content_digest, plan.recipe.internal_id
        known = self._prepared.pop(internal_id, None)
        if known is None:
            engine = self._engine(key, plan)
            known = Prepared(plan.recipe, _inspector(plan, engine), key)
        fault = _warm_up(known.inspector, plan)
        if fault is not None:
            self._give_up(key, fault)
            found = f"recipe {plan.recipe.external_id!r} cannot be used: {first_line(fault)}"
            raise StationError(found, "a reference that can be judged", "see the log", -Code.ENGINE_FAULT)
        self._prepared[internal_id] = Prepared(plan.recipe, known.inspector, key)
        while len(self._prepared) > MAX_PREPARED:
            self.unprepare(next(iter(self._prepared)))
        return plan.recipe

    def unprepare(self, internal_id: str) -> None:
        """Put a version away; its engine stays open until another bundle needs the room."""
        self._prepared.pop(internal_id, None)

    def prepared(self, internal_id: str) -> Prepared:
        """Return a version that is ready; StationError when it is not."""
        if internal_id not in self._prepared:
            raise StationError(f"version {internal_id!r} of a recipe is not prepared", "a prepared one", "prepare it")
        return self._prepared[internal_id]

    def of_part(self, part: str) -> Prepared:
        """Return the version of a part that was prepared last; StationError when none is ready."""
        for one in reversed(self._prepared.values()):
            if one.recipe.part == part:
                return one
        raise StationError(f"no recipe of part {part!r} is prepared", "a prepared one", "prepare it")

    def close(self) -> None:
        """Put everything away."""
        self._prepared.clear()
        self._close_engines(set(self._engines))

    def _engine(self, key: str, plan: Plan) -> Engine:
        """Return the open engine of a bundle; for another one those that nothing uses make room first."""
        if key not in self._engines:
            used = {one.engine_key for one in self._prepared.values()}
            self._close_engines(set(self._engines) - used)
            engine = self._engine_of(plan.bundle, self._config.station.engine, self._config.station.threads)
            self._engines[key] = engine.__enter__()
        return self._engines[key]

    def _give_up(self, key: str, fault: Exception) -> None:
        """Close an engine that fails, so that the next attempt opens another; a version's own fault leaves it open."""
        if isinstance(fault, EngineError) or not isinstance(fault, JudoEdgeError):
            self._prepared = {name: one for name, one in self._prepared.items() if one.engine_key != key}
            self._close_engines({key})

    def _close_engines(self, keys: set[str]) -> None:
        for key in keys:
            self._engines.pop(key).__exit__(None, None, None)


def _inspector(plan: Plan, engine: Engine) -> Inspector:
    decider = Decider(plan.store, plan.bundle, plan.version.engine, plan.decisions)
    return Inspector(
        plan.bundle,
        engine,
        plan.store.photos(plan.version.part),
        accept_failed=plan.table.accept_failed,
        store=plan.store,
        decider=decider,
    )


def _warm_up(inspector: Inspector, plan: Plan) -> Exception | None:
    """Judge a reference against itself, so that the first part waits for nothing; returns what went wrong."""
    part = plan.version.part
    image = plan.store.image(plan.store.references(part)[-1])
    inspection = inspector.look(Frame("warm-up", part, image, time.monotonic_ns()))
    verdict = inspection.verdict
    if inspection.fault is None and verdict.decision is not Decision.OK:
        name = f"recipe {plan.recipe.external_id}: a reference compared with itself"
        _log.warning("%s is %s: %s", name, verdict.decision.value, verdict.reason)
    return inspection.fault
