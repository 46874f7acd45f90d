"""What is kept of challenges over restarts: the hashes of the challenge parts, and how each version of a recipe did.

One JSON file, replaced as a whole. Knows nothing of how parts are judged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from judo_edge.config import Frozen
from judo_edge.files import output_errors, sync_to_disk, write_atomic

MAX_RUNS = 50
"""Versions of a recipe whose outcome is kept."""


class ChallengeRun(Frozen):
    """How one version of a recipe judged its challenge parts."""

    internal_id: str
    at: AwareDatetime
    """When it was over."""
    state: Literal["passed", "failed", "none"]
    """`none`: there are no challenge parts, and none are required."""
    text: str = ""
    """What failed, in words."""


class RecipeRecord(Frozen):
    """What is known of one recipe's challenge parts."""

    masters: dict[str, str] = Field(default_factory=dict)
    """SHA-256 by name, of the set that was accepted last."""
    runs: tuple[ChallengeRun, ...] = ()
    """The newest last, one per internal id."""

    def run_of(self, internal_id: str) -> ChallengeRun | None:
        """Return the outcome of a version, None when it was never judged."""
        return next((run for run in self.runs if run.internal_id == internal_id), None)

    def with_run(self, run: ChallengeRun) -> RecipeRecord:
        """Return the record with the outcome of one version in place of its earlier one."""
        others = [other for other in self.runs if other.internal_id != run.internal_id]
        return self.model_copy(update={"runs": (*others, run)[-MAX_RUNS:]})


class ChallengeRecords(Frozen):
    """The whole file."""

    format_version: Literal[1] = 1
    recipes: dict[str, RecipeRecord] = Field(default_factory=dict)

    def of(self, external_id: str) -> RecipeRecord:
        """Return what is known of a recipe."""
        return self.recipes.get(external_id, RecipeRecord())

    def with_recipe(self, external_id: str, record: RecipeRecord) -> ChallengeRecords:
        """Return the records with that of one recipe replaced."""
        return self.model_copy(update={"recipes": {**self.recipes, external_id: record}})


def records_from_file(path: Path) -> tuple[ChallengeRecords, str]:
    """Read the file; one that is damaged gives empty records, so that everything is judged again, and says why."""
    try:
        return ChallengeRecords.model_validate_json(path.read_bytes()), ""
    except FileNotFoundError:
        return ChallengeRecords(), ""
    except (OSError, ValidationError) as error:
        return (
            ChallengeRecords(),
            f"{path} cannot be read ({type(error).__name__}): all parts are judged anew",
        )


def write_records(path: Path, records: ChallengeRecords) -> None:
    """Replace the file; OutputError when it cannot be written."""
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, records.model_dump_json(indent=1).encode() + b"\n", force=True)
    with output_errors(path):
        sync_to_disk(path.parent)
