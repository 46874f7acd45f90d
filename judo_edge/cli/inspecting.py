"""Commands of the line engineer: enrol good parts, inspect photos, measure on a labelled set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judo_edge.cli.app import (
    EXIT_UNDECIDABLE,
    AcceptFailed,
    BundleName,
    EngineName,
    Force,
    Part,
    Store,
    Threads,
    accepted_bundle,
    app,
    noted,
)
from judo_edge.core import Decision, Event
from judo_edge.errors import InputError

if TYPE_CHECKING:
    from judo_edge.evaluate import Evaluation
    from judo_edge.runtime import Inspector, ReferenceStore, RunOutput
    from judo_edge.runtime.sources.folder import FolderSource

_NAMES = {Decision.OK: "OK", Decision.NOK: "NOK", Decision.NOT_DECIDABLE: "not decidable"}


@app.command()
def enroll(
    part: Part,
    images: Annotated[list[str] | None, typer.Argument(metavar="IMAGES...", help="Photos of good parts.")] = None,
    store: Store = Path("references"),
    retire: Annotated[str, typer.Option("--retire", metavar="ID", help="Take a reference out of use.")] = "",
    show: Annotated[bool, typer.Option("--list", help="List the references of the part and its recipe.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the part's recipe (see --list); repeat for each."),
    ] = None,
) -> None:
    """Enrol photos of good parts as references; the same pixels are enrolled once."""
    from judo_edge.runtime.partrecipe import changed_recipe
    from judo_edge.runtime.references import ReferenceStore

    shelf = ReferenceStore(store)
    if not (images or retire or show or settings):
        raise InputError("nothing to enrol", "photos, --retire, --set or --list", "name the photos of good parts")
    if settings:
        shelf.set_recipe(part, changed_recipe(shelf.recipe(part), settings))
    if retire:
        typer.echo(f"{shelf.retire(part, retire).reference_id} retired")
    failures = sum(not _enrolled(shelf, part, path) for path in _photos(images or []))
    if show:
        _list(shelf, part)
    typer.echo(f"{part}: {len(shelf.references(part))} references in {store}")
    if failures:
        raise InputError(f"{failures} of {len(_photos(images or []))} photos were not enrolled", action="see above")


@app.command()
def inspect(
    bundle: BundleName,
    part: Part,
    images: Annotated[str, typer.Option("--images", metavar="DIR|GLOB", help="Photos to inspect.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for verdicts.jsonl, masks and report.html.")],
    store: Store = Path("references"),
    reference: Annotated[
        list[str] | None, typer.Option("--reference", metavar="IMG", help="Good photo to use instead of the store's.")
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Print what becomes known of a photo as it does, a line of JSON each.")
    ] = False,
    engine_name: EngineName = "onnxruntime",
    threads: Threads = 0,
    accept_failed: AcceptFailed = None,
    force: Force = False,
) -> None:
    """Inspect photos of a part and write verdicts, masks and a report.

    Every photo gets one verdict: OK, NOK or NOT_DECIDABLE with the reason. Exit code 0 when all were decided, 3 when
    one was not; 130 when stopped by Ctrl-C, with all verdicts so far and their report kept.
    """
    from judo_edge.bundle.acceptance import acceptance_text
    from judo_edge.runtime import Inspector, ReferenceStore, RunFacts, RunOutput, engine_from_bundle
    from judo_edge.runtime.outputs import check_run_folder
    from judo_edge.runtime.references import NearestReference, photo_from_file
    from judo_edge.runtime.sources.folder import FolderSource, paths_from_pattern

    check_run_folder(out, force)
    source = FolderSource(paths_from_pattern(images), part)
    given = [photo_from_file(path) for path in _photos(reference or [])]
    shelf = ReferenceStore(store)
    references = NearestReference(given) if given else shelf.photos(part)
    opened = accepted_bundle(bundle, accept_failed)
    with engine_from_bundle(opened, engine_name, threads) as engine:
        inspector = Inspector(
            opened, engine, references, accept_failed=accept_failed or (), store=None if given else shelf
        )
        if not given and (note := inspector.decider.note(part)):
            noted(note)
        known = acceptance_text(opened)
        facts = RunFacts(part, opened.manifest.name, opened.digest, inspector.grid, len(source), known)
        output = RunOutput(out, facts, force)
        counts = _run(inspector, source, output, stream)
    typer.echo(f"{sum(counts.values())} photos: {', '.join(f'{count} {name}' for name, count in counts.items())}")
    typer.echo(f"report: {output.report_path}")
    if counts[_NAMES[Decision.NOT_DECIDABLE]]:
        raise typer.Exit(EXIT_UNDECIDABLE)


@app.command()
def evaluate(
    bundle: BundleName,
    items: Annotated[Path, typer.Argument(metavar="ITEMS.CSV", help="Labelled set.")],
    split: Annotated[str, typer.Option("--split", help="accept, train or all.")] = "accept",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here too.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many items, both labels alike.")
    ] = None,
    references: Annotated[int, typer.Option("--references", min=1, help="Candidate references per item.")] = 1,
    engine_name: EngineName = "onnxruntime",
    threads: Threads = 0,
    accept_failed: AcceptFailed = None,
    force: Force = False,
) -> None:
    """Measure a bundle on a labelled set, with bootstrap intervals of 95 % over items."""
    from judo_edge.bundle.acceptance import acceptance_text
    from judo_edge.evaluate import LabelledSet, check_target, evaluation_from_outcomes, outcomes, write_evaluation
    from judo_edge.runtime import engine_from_bundle
    from judo_edge.terminal import bar

    if json_file is not None:
        check_target(json_file, force)
    labelled = LabelledSet.open(items, split, limit, references)
    opened = accepted_bundle(bundle, accept_failed)
    with engine_from_bundle(opened, engine_name, threads) as engine, bar() as progress:
        task = progress.add_task("evaluating", total=len(labelled.items), state="")
        results = []
        for outcome in outcomes(opened, engine, labelled, accept_failed=accept_failed or ()):
            results.append(outcome)
            progress.advance(task)
    evaluation = evaluation_from_outcomes(results)
    _show_figures(evaluation)
    if json_file is not None:
        about = {"bundle": opened.manifest.name, "digest": opened.digest, "engine": engine_name}
        about |= {"items": str(items), "split": split}
        write_evaluation(
            json_file,
            {**evaluation.to_dict(), **about, "references": references, "acceptance": acceptance_text(opened)},
            force,
        )
        typer.echo(f"figures: {json_file}")


def _photos(patterns: Sequence[str]) -> list[Path]:
    from judo_edge.runtime.sources.folder import paths_from_pattern

    return [path for pattern in patterns for path in paths_from_pattern(pattern)]


def _list(store: ReferenceStore, part: str) -> None:
    """Show the references of a part and its recipe."""
    for reference in store.references(part, retired=True):
        state = f"retired {reference.retired}" if reference.retired else "in use"
        typer.echo(f"{reference.reference_id}  {reference.width}x{reference.height}  {reference.source}  {state}")
    for name, value in store.recipe(part).model_dump().items():
        typer.echo(f"{name} = {value}")


def _enrolled(store: ReferenceStore, part: str, path: Path) -> bool:
    """Enrol one photo and say what became of it; False when it is no photo."""
    from judo_edge.vision.photos import image_from_file

    try:
        image = image_from_file(path)
    except InputError as error:
        noted(f"{path}: {error}")
        return False
    known = store.known(part, image)
    reference = known or store.enroll(part, image, path.name)
    typer.echo(f"{reference.reference_id}  {path}{' (was enrolled already)' if known else ''}")
    return True


def _run(inspector: Inspector, source: FolderSource, output: RunOutput, stream: bool) -> dict[str, int]:
    """Inspect everything under a progress bar and return the number of each decision."""
    from judo_edge.runtime import inspected
    from judo_edge.runtime.stages import unheard
    from judo_edge.terminal import bar

    counts = dict.fromkeys(_NAMES.values(), 0)
    with output, bar() as progress:
        task = progress.add_task(source.part, total=len(source), state="")
        for item, inspection in inspected(inspector, source, _print_event if stream else unheard):
            output.add(item, inspection)
            counts[_NAMES[inspection.verdict.decision]] += 1
            progress.update(task, advance=1, state=", ".join(f"{count} {name}" for name, count in counts.items()))
    return counts


def _print_event(event: Event) -> None:
    from judo_edge.runtime.records import record_from_event

    typer.echo(json.dumps(record_from_event(event), ensure_ascii=False))


def _show_figures(evaluation: Evaluation) -> None:
    from judo_edge.terminal import print_table

    rows = []
    for name, figure in evaluation.figures.items():
        numbers = (figure.value, figure.low, figure.high)
        rows.append((name, *("-" if number is None else f"{number:.3f}" for number in numbers)))
    print_table(("figure", "value", "low", "high"), rows)
    typer.echo(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in evaluation.counts.items()))
    typer.echo(f"cell scores: {evaluation.cell_score}")
