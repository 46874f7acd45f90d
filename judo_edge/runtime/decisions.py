"""The calibrated decisions of a part in the reference store: numbered versions, and which of them is in use.

`<store>/<part>/decisions/0001.json` and so on are never changed; `in-use` holds the number of one. A decision holds for
the bundle, the engine and the references that it was made with, and is applied to no other. Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from judo_edge.bundle import Bundle
from judo_edge.calibration.decision import Circumstances, PartDecision, decision_from_bytes
from judo_edge.errors import InputError
from judo_edge.files import output_errors, sync_to_disk, write_atomic
from judo_edge.runtime.references import folder_from_part

_FOLDER, _IN_USE = "decisions", "in-use"
_CALIBRATE = "judo-edge calibrate-decision"


class DecisionStore:
    """The decisions of all parts of a reference store."""

    def __init__(self, folder: Path) -> None:
        """Name the folder of the reference store."""
        self.folder = folder

    def versions(self, part: str) -> tuple[PartDecision, ...]:
        """Return every version of a part, oldest first; ConfigError names a file that was changed."""
        return tuple(self.version(part, number) for number in self._numbers(part))

    def version(self, part: str, number: int) -> PartDecision:
        """Return one version; InputError when there is none of that number, ConfigError when its file was changed."""
        path = self._path(part, number)
        if number not in self._numbers(part):
            listed = ", ".join(map(str, self._numbers(part))) or "none"
            raise InputError(f"no decision {number} of part {part!r}", f"one of {listed}", f"{_CALIBRATE} --list")
        decision = decision_from_bytes(self._read(path), path)
        if (decision.part, decision.version) != (part, number):
            found = f"{path} is decision {decision.version} of part {decision.part!r}"
            raise InputError(found, f"decision {number} of {part!r}", "put the file back where it belongs")
        return decision

    def in_use(self, part: str) -> PartDecision | None:
        """Return the version in use; None when none was made. InputError or ConfigError when it cannot be read."""
        path = self._folder(part) / _IN_USE
        if not path.is_file():
            return None
        text = self._read(path).decode("ascii", "replace").strip()
        if not text.isdigit():
            raise InputError(f"{path} holds {text[:20]!r}", "the number of a decision", f"{_CALIBRATE} --use NUMBER")
        return self.version(part, int(text))

    def add(self, decision: PartDecision) -> PartDecision:
        """Store a decision under the next number, put it in use and return it; OutputError when it cannot be written.

        The version is on the disk before it is in use. Two that come at once never share a number: one is refused.
        """
        number = max(self._numbers(decision.part), default=0) + 1
        numbered = decision.model_copy(update={"version": number}).sealed()
        path = self._path(decision.part, number)
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (numbered.model_dump_json(indent=2) + "\n").encode())
        return self.use(decision.part, number)

    def use(self, part: str, number: int) -> PartDecision:
        """Put a version in use, such as an older one, and return it; InputError when there is none of that number."""
        decision = self.version(part, number)
        path = self._folder(part) / _IN_USE
        write_atomic(path, f"{number}\n".encode(), force=True)
        with output_errors(path):
            sync_to_disk(path.parent)
        return decision

    def _folder(self, part: str) -> Path:
        return self.folder / folder_from_part(part) / _FOLDER

    def _path(self, part: str, number: int) -> Path:
        return self._folder(part) / f"{number:04d}.json"

    def _numbers(self, part: str) -> list[int]:
        return sorted(int(path.stem) for path in self._folder(part).glob("*.json") if path.stem.isdigit())

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}", "a readable file", "check the store") from error


def circumstances_of(bundle: Bundle, engine_name: str, reference_ids: Iterable[str]) -> Circumstances:
    """Return what the decisions of a run depend on; the order of the references does not matter."""
    ids = tuple(sorted(reference_ids))
    return Circumstances(bundle_digest=bundle.subject_digest, engine=engine_name, reference_ids=ids)


def applicable_decision(
    store: Path | DecisionStore, part: str, circumstances: Circumstances
) -> tuple[PartDecision | None, str]:
    """Return the decision in use and an empty text, or None and the reason in words.

    Raises InputError or ConfigError when the decision in use cannot be read: a line must not run on without knowing.
    """
    decisions = store if isinstance(store, DecisionStore) else DecisionStore(store)
    decision = decisions.in_use(part)
    if decision is None:
        return None, f"no calibrated decision for part {part}: {_CALIBRATE} makes one"
    if difference := decision.circumstances.difference(circumstances):
        return None, f"decision {decision.version} of part {part} is not applied: {difference}; {_CALIBRATE} again"
    return decision, ""
