"""The command of the gate: compare a bundle with its reference, and write into it what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judo_edge.cli.app import EXIT_GATE, BundleName, Force, Threads, app, noted, opened_bundle
from judo_edge.cli.stopping import export_bar

if TYPE_CHECKING:
    from judo_edge.bundle import Bundle
    from judo_edge.calibration.gates import Gates
    from judo_edge.parity.compare import Compared
    from judo_edge.parity.report import Setting


@app.command()
def verify(
    bundle: BundleName,
    against: Annotated[
        str, typer.Option("--against", metavar="CHECKPOINT|BUNDLE", help="What the bundle has to agree with.")
    ],
    items: Annotated[
        list[Path], typer.Option("--items", metavar="ITEMS.CSV", help="Labelled set, good and defect; repeat for more.")
    ],
    adapter: Annotated[
        list[str] | None, typer.Option("--adapter", help="LoRA folder of the checkpoint; may be given again.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="accept, train or all.")] = "accept",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many items of a set, both labels alike.")
    ] = None,
    references: Annotated[int, typer.Option("--references", min=1, help="Candidate references per item.")] = 1,
    gates: Annotated[
        Path | None, typer.Option("--gates", metavar="FILE", help="Limits, TOML; else the shipped.")
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="Engine that runs the bundle.")] = "onnxruntime",
    allow_other_source: Annotated[
        bool, typer.Option("--allow-other-source", help="Compare with a reference made from other weights.")
    ] = False,
    threads: Threads = 0,
    force: Force = False,
) -> None:
    """Measure whether a bundle still says what its reference says, and write the report into the bundle.

    Exit code 0 when every gate passed; 1 when one failed or could not be measured: the report is kept, and the runtime
    refuses the bundle unless each failed gate is accepted by name (--accept-failed). 2 for an error; then the bundle is
    as it was.
    """
    from judo_edge.bundle.acceptance import check_unverified
    from judo_edge.calibration.gates import load_gates
    from judo_edge.evaluate import LabelledSet
    from judo_edge.parity.compare import compared_items
    from judo_edge.parity.report import Setting

    limits = load_gates(gates)
    labelled = LabelledSet.joined([LabelledSet.open(path, split, limit, references) for path in items])
    opened = opened_bundle(bundle)
    check_unverified(opened, force)
    reference = _reference(against, adapter or [], opened, allow_other_source)
    with _steps(len(labelled.items)) as progress:
        compared = compared_items(reference, opened, labelled, engine, threads, progress)
    setting = Setting(opened, reference, tuple(items), split, references, engine)
    if _judged(setting, compared, limits, force):
        raise typer.Exit(EXIT_GATE)


def _judged(setting: Setting, compared: Sequence[Compared], limits: Gates, force: bool) -> tuple[str, ...]:
    """Ask the gates, show the answers and write them into the bundle; return the gates that failed."""
    from judo_edge.bundle.acceptance import write_acceptance
    from judo_edge.calibration.gates import gate_results
    from judo_edge.parity.figures import figures_from_compared
    from judo_edge.parity.report import accepted_from_results, gate_rows, report_content
    from judo_edge.terminal import print_table

    figures = figures_from_compared(compared)
    results = gate_results(limits, figures)
    print_table(("gate", "limit", "measured", "from", ""), gate_rows(results))
    accepted = accepted_from_results(setting, compared, results)
    written = write_acceptance(setting.bundle, accepted, report_content(setting, compared, figures, results), force)
    assert written.manifest.acceptance
    typer.echo(f"{written.folder}: {written.manifest.acceptance.status}, report {written.manifest.acceptance.report}")
    return accepted.failed


def _reference(against: str, adapters: list[str], bundle: Bundle, allow_other_source: bool) -> Bundle:
    from judo_edge.files import cache_folder
    from judo_edge.parity.sources import reference_bundle

    with export_bar() as report:
        return reference_bundle(against, adapters, bundle, cache_folder(), allow_other_source, report, noted)


@contextmanager
def _steps(num_items: int) -> Iterator[Callable[[str, int], None]]:
    """Show a bar for each side and yield what tells it how far it is."""
    from judo_edge.terminal import bar

    with bar() as shown:
        tasks = {side: shown.add_task(side, total=num_items, state="") for side in ("reference", "bundle")}
        yield lambda side, done: shown.update(tasks[side], completed=done)
