"""The command line: arguments to plain functions of the rooms, their results to tables, errors to one line.

A room is imported when its command runs, so that `inspect` needs no torch. Exit codes: 0 done, 2 an error that the
line explains, 3 a run with a photo that could not be decided, 70 a fault of judo-edge itself, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from judo_edge import __version__
from judo_edge.core import Decision
from judo_edge.errors import DependencyError, InputError, JudoEdgeError

if TYPE_CHECKING:
    from judo_edge.bundle import Bundle
    from judo_edge.evaluate import Evaluation
    from judo_edge.runtime import Inspector, ReferenceStore, RunOutput
    from judo_edge.runtime.sources.folder import FolderSource

EXIT_UNDECIDABLE, EXIT_FAULT, EXIT_STOPPED = 3, 70, 130
DEBUG = "JUDO_EDGE_DEBUG"
_NAMES = {Decision.OK: "OK", Decision.NOK: "NOK", Decision.NOT_DECIDABLE: "not decidable"}

_USAGE_ERROR: Any = typer.BadParameter.__mro__[2]
"""Click's base error; some versions of typer bring their own click, so it is found through typer."""

app = typer.Typer(
    name="judo-edge",
    help="From a JUDO checkpoint to a verdict on the line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
prompts = typer.Typer(help="Prompt profiles: how the model is asked.", no_args_is_help=True)
app.add_typer(prompts, name="prompt")

BundleName = Annotated[str, typer.Argument(metavar="BUNDLE", help="Bundle folder, or the name of a shipped model.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an earlier output of the same kind.")]
Part = Annotated[str, typer.Option("--part", help="Part number.")]
Store = Annotated[Path, typer.Option("--store", help="Folder of enrolled good parts.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="Threads per operator, 0 for as many as cores.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; an error is one line on stderr."""
    debug = os.environ.get(DEBUG) == "1"
    if not debug:  # a fault inside a frame is in its verdict; its trace is for developers
        logging.getLogger("judo_edge").addHandler(logging.NullHandler())
    try:
        return int(app(list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False) or 0)
    except _USAGE_ERROR as error:
        error.show()
        return int(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _failed("stopped", EXIT_STOPPED)
    except JudoEdgeError as error:
        if debug:
            raise
        return _failed(str(error), error.exit_code)
    except Exception as error:
        if debug:
            raise
        return _failed(f"fault of judo-edge: {type(error).__name__}: {error} ({DEBUG}=1 shows where)", EXIT_FAULT)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        typer.echo(f"judo-edge {__version__}")
        raise typer.Exit


@prompts.command("import")
def prompt_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The official evaluator file; it is parsed, never run.")],
    out: Annotated[Path, typer.Option("--out", help="Profile to write, TOML.")],
    grid: Annotated[int, typer.Option("--grid", min=1, help="Rows and columns of the mask.")] = 16,
    name: Annotated[str, typer.Option("--name", help="Name of the profile.")] = "judo",
    prefix_n: Annotated[
        bool, typer.Option("--prefix-n", help="Begin the user text with n as the evaluator does.")
    ] = False,
    allow_other: Annotated[
        bool, typer.Option("--allow-other", help="Accept a text that is not the published one.")
    ] = False,
    force: Force = False,
) -> None:
    """Import JUDO's system text from its official evaluator file."""
    from judo_edge.protocol.importer import profile_from_evaluator
    from judo_edge.protocol.profile import save_profile

    prefix = "n" if prefix_n else "\n"
    imported = profile_from_evaluator(file, grid, name=name, prefix=prefix, allow_other=allow_other)
    save_profile(imported.profile, out, force)
    if imported.warning:
        _noted(imported.warning)
    typer.echo(f"{out}: profile {name}, {grid}x{grid} cells, system text SHA-256 {imported.profile.system_sha256}")


@app.command()
def export(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Folder, or the name of a shipped checkpoint.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Bundle folder to write.")],
    recipe: Annotated[str, typer.Option("--recipe", help="Name of a recipe, or a TOML file.")] = "cpu-int8",
    adapter: Annotated[list[str] | None, typer.Option("--adapter", help="LoRA folder; may be given again.")] = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", help="Prompt profile, if the checkpoint has none.")
    ] = None,
    force: Force = False,
) -> None:
    """Make a bundle from a checkpoint and its adapters."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from judo_edge.terminal import console

    try:
        from judo_edge.export.pipeline import ExportProgress, export_bundle
    except ModuleNotFoundError as error:
        found = f"export needs the package {error.name!r}"
        raise DependencyError(found, "the extra export", "pip install 'judo-edge[export]'") from error
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def report(state: ExportProgress) -> None:
            bar.update(task, description=state.step, completed=state.done, total=state.total or None)

        written = export_bundle(checkpoint, adapter or [], recipe, out, profile, force, report)
    typer.echo(f"{written}: written; judo-edge info {written} shows what is in it")


@app.command()
def info(bundle: BundleName) -> None:
    """Verify a bundle and show what was decided when it was made."""
    from judo_edge.bundle import info_rows
    from judo_edge.terminal import print_table

    print_table((), info_rows(_opened(bundle)))


@app.command()
def enroll(
    part: Part,
    images: Annotated[list[str] | None, typer.Argument(metavar="IMAGES...", help="Photos of good parts.")] = None,
    store: Store = Path("references"),
    retire: Annotated[str, typer.Option("--retire", metavar="ID", help="Take a reference out of use.")] = "",
    show: Annotated[bool, typer.Option("--list", help="List the references of the part.")] = False,
) -> None:
    """Enrol photos of good parts as references; the same pixels are enrolled once."""
    from judo_edge.runtime.references import ReferenceStore

    shelf = ReferenceStore(store)
    if not (images or retire or show):
        raise InputError("nothing to enrol", "photos, --retire or --list", "name the photos of good parts")
    if retire:
        typer.echo(f"{shelf.retire(part, retire).reference_id} retired")
    failures = sum(not _enrolled(shelf, part, path) for path in _photos(images or []))
    if show:
        for reference in shelf.references(part, retired=True):
            state = f"retired {reference.retired}" if reference.retired else "in use"
            typer.echo(f"{reference.reference_id}  {reference.width}x{reference.height}  {reference.source}  {state}")
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
    threads: Threads = 0,
    force: Force = False,
) -> None:
    """Inspect photos of a part and write verdicts, masks and a report.

    Every photo gets one verdict: OK, NOK or NOT_DECIDABLE with the reason. Exit code 0 when all were decided, 3 when
    one was not; 130 when stopped by Ctrl-C, with all verdicts so far and their report kept.
    """
    from judo_edge.runtime import Inspector, ReferenceStore, RunFacts, RunOutput, engine_from_bundle
    from judo_edge.runtime.outputs import check_run_folder
    from judo_edge.runtime.references import NearestReference, photo_from_file
    from judo_edge.runtime.sources.folder import FolderSource, paths_from_pattern

    check_run_folder(out, force)
    source = FolderSource(paths_from_pattern(images), part)
    given = [photo_from_file(path) for path in _photos(reference or [])]
    references = NearestReference(given) if given else ReferenceStore(store).photos(part)
    opened = _opened(bundle)
    with engine_from_bundle(opened, threads=threads) as engine:
        inspector = Inspector(opened, engine, references)
        facts = RunFacts(part, opened.manifest.name, opened.digest, inspector.grid, len(source))
        output = RunOutput(out, facts, force)
        counts = _run(inspector, source, output)
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
    threads: Threads = 0,
    force: Force = False,
) -> None:
    """Measure a bundle on a labelled set, with bootstrap intervals of 95 % over items."""
    from judo_edge.evaluate import LabelledSet, check_target, evaluation_from_outcomes, outcomes, write_evaluation
    from judo_edge.runtime import engine_from_bundle
    from judo_edge.terminal import bar

    if json_file is not None:
        check_target(json_file, force)
    labelled = LabelledSet.open(items, split, limit, references)
    opened = _opened(bundle)
    with engine_from_bundle(opened, threads=threads) as engine, bar() as progress:
        task = progress.add_task("evaluating", total=len(labelled.items), state="")
        results = []
        for outcome in outcomes(opened, engine, labelled):
            results.append(outcome)
            progress.advance(task)
    evaluation = evaluation_from_outcomes(results)
    _show_figures(evaluation)
    if json_file is not None:
        about = {"bundle": opened.manifest.name, "digest": opened.digest, "items": str(items), "split": split}
        write_evaluation(json_file, {**evaluation.to_dict(), **about, "references": references}, force)
        typer.echo(f"figures: {json_file}")


def _opened(name: str) -> Bundle:
    from judo_edge.shipped import bundle_from_name

    return bundle_from_name(name, _noted)


def _photos(patterns: Sequence[str]) -> list[Path]:
    from judo_edge.runtime.sources.folder import paths_from_pattern

    return [path for pattern in patterns for path in paths_from_pattern(pattern)]


def _enrolled(store: ReferenceStore, part: str, path: Path) -> bool:
    """Enrol one photo and say what became of it; False when it is no photo."""
    from judo_edge.runtime.photos import image_from_file

    try:
        image = image_from_file(path)
    except InputError as error:
        _noted(f"{path}: {error}")
        return False
    known = store.known(part, image)
    reference = known or store.enroll(part, image, path.name)
    typer.echo(f"{reference.reference_id}  {path}{' (was enrolled already)' if known else ''}")
    return True


def _run(inspector: Inspector, source: FolderSource, output: RunOutput) -> dict[str, int]:
    """Inspect everything under a progress bar and return the number of each decision."""
    from judo_edge.runtime import inspected
    from judo_edge.terminal import bar

    counts = dict.fromkeys(_NAMES.values(), 0)
    with output, bar() as progress:
        task = progress.add_task(source.part, total=len(source), state="")
        for item, inspection in inspected(inspector, source):
            output.add(item, inspection)
            counts[_NAMES[inspection.verdict.decision]] += 1
            progress.update(task, advance=1, state=", ".join(f"{count} {name}" for name, count in counts.items()))
    return counts


def _show_figures(evaluation: Evaluation) -> None:
    from judo_edge.terminal import print_table

    rows = []
    for name, figure in evaluation.figures.items():
        numbers = (figure.value, figure.low, figure.high)
        rows.append((name, *("-" if number is None else f"{number:.3f}" for number in numbers)))
    print_table(("figure", "value", "low", "high"), rows)
    typer.echo(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in evaluation.counts.items()))
    typer.echo(f"cell scores: {evaluation.cell_score}")


def _noted(text: str) -> None:
    from judo_edge.terminal import note

    note(text)


def _failed(text: str, code: int) -> int:
    print(f"judo-edge: {text}", file=sys.stderr)
    return code
