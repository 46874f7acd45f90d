"""The acceptance of a bundle: writing a verification's report into it, and refusing a bundle that failed.

The report gets a name of its own and the manifest is renamed last, so whatever is interrupted, the bundle is either as
it was or accepted anew. Knows nothing of gates but their names.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from judo_edge.bundle.manifest import MANIFEST_NAME, Acceptance, FileEntry
from judo_edge.bundle.reader import LEFT_OVER, Bundle, open_bundle
from judo_edge.errors import BundleError, OutputError
from judo_edge.files import output_errors, sha256_of_bytes, sync_to_disk, write_atomic

NOT_VERIFIED = "not verified"


@dataclass(frozen=True)
class Outcome:
    """What a verification decided, before it is written."""

    failed: tuple[str, ...]
    """Names of the gates that failed."""
    against: str
    items: str
    engine: str


def check_accepted(bundle: Bundle, accepted: Collection[str] = ()) -> tuple[str, ...]:
    """Return the failed gates of a bundle, all of which must be accepted by name.

    A bundle that was never verified is let through. Raises BundleError that names the gates which are not accepted, or
    when the acceptance was given to another state of the bundle.
    """
    acceptance = bundle.manifest.acceptance
    if acceptance is None:
        return ()
    if is_stale(bundle):
        found = f"{bundle.folder}: the manifest was changed after its verification"
        raise BundleError(found, "an acceptance of this content", "run judo-edge verify with --force")
    refused = [gate for gate in acceptance.failed if gate not in accepted]
    if refused:
        found = f"{bundle.folder} failed its verification: {', '.join(refused)}"
        action = f"export it with another recipe, or accept each by name ({_options(refused)})"
        raise BundleError(found, "a bundle that passed judo-edge verify", action)
    return acceptance.failed


def is_stale(bundle: Bundle) -> bool:
    """Tell whether the manifest says anything else than when it was verified."""
    acceptance = bundle.manifest.acceptance
    return acceptance is not None and acceptance.subject != bundle.subject_digest


def acceptance_text(bundle: Bundle) -> str:
    """Return on one line what is known: `not verified`, `passed ...` or `failed ...` with the gates."""
    acceptance = bundle.manifest.acceptance
    if acceptance is None:
        return NOT_VERIFIED
    if is_stale(bundle):
        return f"{NOT_VERIFIED}: the manifest was changed after its verification"
    failed = f": {', '.join(acceptance.failed)}" if acceptance.failed else ""
    return f"{acceptance.status}{failed} (against {acceptance.against}, {acceptance.items})"


def acceptance_rows(bundle: Bundle) -> list[tuple[str, str]]:
    """Return the rows of `judo-edge info`: the acceptance, and which report tells more."""
    rows = [("acceptance", acceptance_text(bundle))]
    if acceptance := bundle.manifest.acceptance:
        rows.append(("verified", f"{acceptance.created}, engine {acceptance.engine}, figures in {acceptance.report}"))
    return rows


def check_unverified(bundle: Bundle, force: bool) -> None:
    """Raise OutputError when the bundle holds a report and `force` is not given: better before a run than after it."""
    if bundle.manifest.acceptance is not None and not force:
        found = f"{bundle.folder} was verified on {bundle.manifest.acceptance.created}"
        raise OutputError(found, action="pass --force to replace the report")


def write_acceptance(bundle: Bundle, outcome: Outcome, report: Mapping[str, object], force: bool = False) -> Bundle:
    """Put a report into the bundle and return the bundle opened anew (names and sizes checked).

    Raises OutputError when there is a report already and `force` is not given, or when it cannot be written; then the
    bundle is as it was.
    """
    check_unverified(bundle, force)
    data = (json.dumps(report, indent=1, allow_nan=False) + "\n").encode()
    name = f"acceptance-{sha256_of_bytes(data)[:12]}.json"
    write_atomic(bundle.folder / name, data, force=True)
    sync_to_disk(bundle.folder)
    manifest = _manifest_bytes(bundle, outcome, name, FileEntry(sha256=sha256_of_bytes(data), bytes=len(data)))
    write_atomic(bundle.folder / MANIFEST_NAME, manifest, force=True)
    sync_to_disk(bundle.folder)
    _remove_others(bundle, name)
    return open_bundle(bundle.folder, verify=False)


def _manifest_bytes(bundle: Bundle, outcome: Outcome, name: str, entry: FileEntry) -> bytes:
    """Change only what the acceptance changes: the rest of the JSON stays as the exporter wrote it."""
    with output_errors(bundle.folder):
        content = json.loads((bundle.folder / MANIFEST_NAME).read_bytes())
    earlier = (content.get("acceptance") or {}).get("report")
    files = {key: value for key, value in content["files"].items() if key != earlier}
    acceptance = Acceptance(
        status="failed" if outcome.failed else "passed",
        failed=outcome.failed,
        report=name,
        subject=bundle.subject_digest,
        against=outcome.against,
        items=outcome.items,
        engine=outcome.engine,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    content["acceptance"] = acceptance.model_dump(mode="json")
    content["files"] = dict(sorted({**files, name: entry.model_dump(mode="json")}.items()))
    return (json.dumps(content, indent=1) + "\n").encode()


def _remove_others(bundle: Bundle, name: str) -> None:
    """Remove earlier reports and what interrupted verifications left."""
    for path in bundle.folder.iterdir():
        if LEFT_OVER.fullmatch(path.name) and path.name != name:
            path.unlink(missing_ok=True)


def _options(gates: Collection[str]) -> str:
    return " ".join(f"--accept-failed {gate}" for gate in gates)
