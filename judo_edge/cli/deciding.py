"""The command of the line engineer that turns good parts into a threshold, and goes back to an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from judo_edge.cli.app import (
    AcceptFailed,
    BundleName,
    EngineName,
    Part,
    Store,
    Threads,
    accepted_bundle,
    app,
    noted,
)
from judo_edge.errors import InputError

if TYPE_CHECKING:
    from judo_edge.calibration.decision import PartDecision
    from judo_edge.calibration.fit import Fit, Observation
    from judo_edge.runtime import Inspector, ReferenceStore
    from judo_edge.runtime.calibrating import LabelledPhoto
    from judo_edge.runtime.decisions import DecisionStore

_QUANTILES = (0.5, 0.9, 0.99, 1.0)


@app.command("calibrate-decision")
def calibrate_decision(
    part: Part,
    bundle: BundleName = "",
    good: Annotated[
        list[str] | None, typer.Option("--good", metavar="DIR|GLOB", help="Photos of good parts; may be given again.")
    ] = None,
    defects: Annotated[
        list[str] | None, typer.Option("--defects", metavar="DIR|GLOB", help="Photos of defects, if there are any.")
    ] = None,
    budget: Annotated[float, typer.Option("--budget", help="Share of good parts that may be rejected.")] = 0.01,
    confidence: Annotated[float, typer.Option("--confidence", help="Confidence that the budget is kept.")] = 0.9,
    sign: Annotated[
        list[str] | None, typer.Option("--sign", metavar="NAME", help="Use only this sign; may be given again.")
    ] = None,
    reviews: Annotated[
        Path | None,
        typer.Option("--reviews", metavar="STATION.toml", help="Also photos on which a person gave a verdict there."),
    ] = None,
    store: Store = Path("references"),
    show: Annotated[bool, typer.Option("--list", help="List the decisions of the part.")] = False,
    use: Annotated[int | None, typer.Option("--use", metavar="N", help="Put an earlier decision in use.")] = None,
    engine_name: EngineName = "onnxruntime",
    threads: Threads = 0,
    accept_failed: AcceptFailed = None,
) -> None:
    """Set the threshold of a part from photos of good parts, for a stated budget of false rejects.

    The photos must be none of the enrolled references, and taken as the line takes them: the promise is about such.
    """
    from judo_edge.calibration.conformal import guarantee_from_count
    from judo_edge.calibration.fit import fit_from_observations
    from judo_edge.runtime import Inspector, ReferenceStore, engine_from_bundle
    from judo_edge.runtime.calibrating import decision_from_fit
    from judo_edge.runtime.decisions import DecisionStore, circumstances_of

    shelf, references = DecisionStore(store), ReferenceStore(store)
    if show or use is not None:
        _show_versions(shelf, part, use)
        return
    if not (bundle and (good or reviews)):
        wanted = "BUNDLE and --good or --reviews, --list or --use"
        raise InputError("nothing to calibrate on", wanted, "name photos of good parts")
    guarantee_from_count(1, budget, confidence)  # a budget that makes no sense is refused before the first photo
    photos = _photos(references, part, good or [], defects or [], reviews)
    opened = accepted_bundle(bundle, accept_failed)
    with engine_from_bundle(opened, engine_name, threads) as engine:
        photos_of_part = references.photos(part)
        inspector = Inspector(opened, engine, photos_of_part, accept_failed=accept_failed or (), store=references)
        fit = fit_from_observations(_observed(inspector, part, photos), budget, confidence, sign or ())
        used = [reference.reference_id for reference in references.references(part)]
        circumstances = circumstances_of(opened, engine_name, used)
        decision = shelf.add(decision_from_fit(part, fit, circumstances, engine))
    _show_fit(fit)
    typer.echo(f"decision {decision.version} of part {part} is in use: {decision.guarantee.text}")


def _photos(
    references: ReferenceStore, part: str, good: Sequence[str], defects: Sequence[str], reviews: Path | None
) -> tuple[LabelledPhoto, ...]:
    """Find and check the photos before anything is loaded."""
    from judo_edge.runtime.calibrating import labelled_photos

    enrolled = {reference.sha256: reference.reference_id for reference in references.references(part)}
    chosen, reviewed = (_paths(good), _paths(defects)), _reviewed(reviews, part)
    photos = labelled_photos(*chosen, enrolled, reviewed)
    if reviews is not None:
        used = photos[len(chosen[0]) + len(chosen[1]) :]
        _note_reviews(len(reviewed), [photo.is_defect for photo in used])
    return photos


def _reviewed(reviews: Path | None, part: str) -> Sequence[tuple[Path, bool]]:
    """Return the photos of a station on which a person gave a verdict, and whether each shows a defect."""
    from judo_edge.station.config import station_from_file
    from judo_edge.station.exporting import reviewed_photos

    return () if reviews is None else reviewed_photos(station_from_file(reviews), part)


def _note_reviews(num_found: int, used: Sequence[bool]) -> None:
    """Say how many reviewed photos are used, and what that means for the promise."""
    noted(
        f"{len(used)} of {num_found} reviewed photos are used: {len(used) - sum(used)} good, {sum(used)} with defects; "
        "the others are references, given already or cannot be read"
    )
    if not all(used):
        noted(
            "reviewed good parts are no random choice: with many of them the budget is kept and more defects may pass"
        )


def _paths(patterns: Sequence[str]) -> list[Path]:
    from judo_edge.runtime.sources.folder import paths_from_pattern

    return [path for pattern in patterns for path in paths_from_pattern(pattern)]


def _observed(inspector: Inspector, part: str, photos: Sequence[LabelledPhoto]) -> list[Observation]:
    """Inspect all photos under a progress bar; stopped by Ctrl-C, nothing has been written."""
    from judo_edge.runtime.calibrating import observations
    from judo_edge.terminal import bar

    seen = []
    try:
        with bar() as progress:
            task = progress.add_task(part, total=len(photos), state="")
            for observation in observations(inspector, part, photos):
                seen.append(observation)
                progress.advance(task)
    except KeyboardInterrupt:
        noted(f"stopped after {len(seen)} of {len(photos)} photos; the decision in use stays as it was")
        raise
    return seen


def _show_versions(shelf: DecisionStore, part: str, use: int | None) -> None:
    """Put a version in use if one is named, and list all of them."""
    from judo_edge.terminal import print_table

    if use is not None:
        shelf.use(part, use)
    versions, active = shelf.versions(part), shelf.in_use(part)
    if not versions:
        raise InputError(f"no decision of part {part!r} in {shelf.folder}", action="make one: give --good")
    rows = [_version_row(decision, active is not None and decision.version == active.version) for decision in versions]
    print_table(("version", "made", "budget", "confidence", "threshold", "signs"), rows)


def _version_row(decision: PartDecision, is_in_use: bool) -> tuple[str, ...]:
    from judo_edge.calibration.conformal import percent_text

    promise = decision.guarantee
    return (
        f"{decision.version}{' in use' if is_in_use else ''}",
        decision.created[:16].replace("T", " "),
        percent_text(promise.budget),
        percent_text(promise.confidence),
        f"{decision.threshold:.3f}",
        "\n".join(decision.rule.needs),
    )


def _show_fit(fit: Fit) -> None:
    """Print the scores of good and defective parts, and what a defect's own absence from the fit would change."""
    from judo_edge.terminal import print_table

    rows = [
        (name, str(len(scores)), *(f"{value:.3f}" for value in np.quantile(scores, _QUANTILES)))
        for name, scores in (("good, for the threshold", fit.good_scores), ("defects", fit.defect_scores))
        if len(scores)
    ]
    caption = f"scores in nats by {', '.join(fit.rule.needs)}; NOK above {fit.threshold:.3f}"
    print_table(("parts", "photos", *(f"{100 * share:.0f} %" for share in _QUANTILES)), rows, caption)
    for reason, count in fit.left_out.items():
        noted(f"{count} photos left out: {reason}")
    if fit.caught:
        typer.echo(f"defects caught: {sum(fit.caught)} of {len(fit.caught)}, each by a rule fitted without it")
