"""Views over the reference store that stand still: exactly some references, one decision, one part recipe.

The store may change meanwhile; its files of retired references and earlier decisions stay, and are what is read here.
"""

from __future__ import annotations

from judo_edge.calibration.decision import PartDecision
from judo_edge.errors import ConfigError, InputError, StationError
from judo_edge.runtime.decisions import DecisionStore
from judo_edge.runtime.partrecipe import PartRecipe
from judo_edge.runtime.references import Reference, ReferenceStore
from judo_edge.station.judge.versions import Version


class PinnedStore(ReferenceStore):
    """The references and the recipe of one part as a version names them; it has no other part."""

    def __init__(self, store: ReferenceStore, version: Version) -> None:
        """Take the version's references from the store, retired ones too; StationError names one that is gone."""
        super().__init__(store.folder)
        self._version = version
        known = {one.reference_id: one for one in store.references(version.part, retired=True)}
        if missing := [one for one in version.reference_ids if one not in known]:
            found = f"reference {missing[0]} of part {version.part!r} is gone from {store.folder}"
            raise StationError(found, "the references of that version", "put its files back, or prepare the newest")
        chosen = (one for one in known.values() if one.reference_id in version.reference_ids)
        self._pinned = tuple(sorted(chosen, key=lambda one: (one.enrolled, one.reference_id)))

    def references(self, part: str, retired: bool = False) -> tuple[Reference, ...]:
        """Return the version's references."""
        return self._pinned if part == self._version.part else ()

    def recipe(self, part: str) -> PartRecipe:
        """Return the version's recipe of the part."""
        return self._version.settings if part == self._version.part else PartRecipe()

    def ids_in_use(self) -> frozenset[str]:
        """Return the ids whose embeddings are kept: the store's, and those of this version."""
        return super().ids_in_use() | frozenset(self._version.reference_ids)


class PinnedDecisions(DecisionStore):
    """The decision of one part that a version names, whatever is in use."""

    def __init__(self, decisions: DecisionStore, version: Version) -> None:
        """Read the decision; StationError when it is gone or another one has its number."""
        super().__init__(decisions.folder)
        self._part = version.part
        self._decision = None if version.decision_version is None else _decision(decisions, version)

    def in_use(self, part: str) -> PartDecision | None:
        """Return the version's decision."""
        return self._decision if part == self._part else None


def _decision(decisions: DecisionStore, version: Version) -> PartDecision:
    name = f"decision {version.decision_version} of part {version.part!r}"
    try:
        decision = decisions.version(version.part, version.decision_version or 0)
    except (InputError, ConfigError) as error:
        raise StationError(
            f"{name} cannot be read: {error.found}", "the decision of that version", error.action
        ) from error
    if decision.digest != version.decision_digest:
        raise StationError(f"{name} is another one than that version's", version.decision_digest, "put its file back")
    return decision
