"""The command of the benchmark engineer: how long a part takes, here or by a formula on a device that is not here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judo_edge.bench.report import Mode
from judo_edge.bench.workloads import Workload
from judo_edge.cli.app import EXIT_GATE, AcceptFailed, EngineName, Force, Threads, accepted_bundle, app, noted
from judo_edge.cli.peering import peer_plan
from judo_edge.errors import ConfigError, InputError

if TYPE_CHECKING:
    from judo_edge.bench.session import Plan, Progress
    from judo_edge.bench.sources import Parts
    from judo_edge.bench.table import Table
    from judo_edge.bundle import Bundle

CAMERAS, WARM_UP, COLD_WARM_UP = 8, 5, 1


@app.command()
def bench(
    bundles: Annotated[list[str], typer.Argument(metavar="BUNDLE...", help="Bundle folders or shipped models.")],
    workload: Annotated[Workload, typer.Option("--workload", help="What the line sends.")] = Workload.GOOD_LINE,
    items: Annotated[
        list[Path] | None, typer.Option("--items", metavar="ITEMS.CSV", help="Labelled set; repeat for more parts.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="accept, train or all.")] = "accept",
    drawn: Annotated[
        list[str] | None, typer.Option("--drawn", metavar="KIND", help="Drawn part; repeat for more. The default.")
    ] = None,
    frames: Annotated[int, typer.Option("--frames", min=1, help="Photos to measure.")] = 200,
    warm_up: Annotated[
        int | None, typer.Option("--warm-up", min=0, help="Moments before, left out; 5 or each part once.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides photos and order.")] = 0,
    mode: Annotated[Mode, typer.Option("--mode", help="What is scored, MLPerf-style.")] = Mode.LATENCY,
    cameras: Annotated[
        int | None, typer.Option("--cameras", min=1, help="Photos at a time in multi-stream, 8 if not given.")
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Draft the plain greedy reply itself: for random weights.")
    ] = False,
    soak: Annotated[bool, typer.Option("--soak", help="A long run: memory, events, losses.")] = False,
    model: Annotated[
        str, typer.Option("--model", metavar="DEVICE", help="Predict that device; nothing is measured.")
    ] = "",
    passes_from: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Report with measured passes, for --model.")
    ] = None,
    assume: Annotated[
        str, typer.Option("--assume", metavar="PASSES", help="e.g. vision=1,prefill=886+60,verify=32x1,tokens=80.")
    ] = "",
    devices: Annotated[Path | None, typer.Option("--devices", metavar="FILE", help="Own table, for --model.")] = None,
    peers: Annotated[
        str, typer.Option("--peers", metavar="NAMES", help="Rivals to ask in turn, with commas, or `installed`.")
    ] = "",
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="DIR", help="What the bundle was made from, for --peers.")
    ] = None,
    peer_python: Annotated[
        list[str] | None, typer.Option("--peer-python", metavar="KEY=PATH", help="A rival's own Python; repeat.")
    ] = None,
    pause: Annotated[
        float, typer.Option("--pause", metavar="MS", min=0, help="Rest before each turn, as between parts.")
    ] = 0.0,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Write an SVG here.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report here.")] = None,
    engine_name: EngineName = "onnxruntime",
    threads: Threads = 0,
    accept_failed: AcceptFailed = None,
    force: Force = False,
) -> None:
    """Measure bundles on a workload: stages, passes, the engine's own limit and plain greedy, in turn in one run.

    Prints tables and, as the last line, the report as JSON. Exit code 1 when drafts changed a reply or an event came
    out of order; 0 otherwise.
    """
    from judo_edge.bench.session import Plan

    _check_targets((plot, json_file), force)
    opened = [accepted_bundle(name, accept_failed) for name in bundles]
    if model or passes_from or assume or devices:
        _predict(opened, model, passes_from, assume, devices, json_file, force)
        return
    parts, origin = _parts(items or [], drawn or [], split, seed)
    together = _cameras(mode, cameras, workload)
    plan = Plan(
        workload=workload,
        parts=parts,
        source=f"{origin}: {', '.join(parts.names if workload is Workload.PART_CHANGE else parts.names[:1])}",
        seed=seed,
        rounds=max(1, frames // together),
        warm_up=_warm_up(workload, len(parts.names), soak) if warm_up is None else warm_up,
        mode=mode,
        cameras=together,
        engine=engine_name,
        threads=threads,
        accept_failed=tuple(accept_failed or ()),
        is_replaying=_replaying(replay, together),
        peers=peer_plan(peers, checkpoint, peer_python or [], threads) if peers else None,
        pause_ms=pause,
    )
    is_fine = _soak(opened, plan, plot, json_file, force) if soak else _measure(opened, plan, plot, json_file, force)
    if not is_fine:
        raise typer.Exit(EXIT_GATE)


def _check_targets(targets: tuple[Path | None, ...], force: bool) -> None:
    from judo_edge.evaluate import check_target

    for target in targets:
        if target is not None:
            check_target(target, force)


def _parts(items: list[Path], drawn: list[str], split: str, seed: int) -> tuple[Parts, str]:
    """Return the part numbers and where their photos come from."""
    from judo_edge.adapt.drawing.parts import BASE_KINDS
    from judo_edge.bench.sources import DrawnParts, LabelledParts

    if items and drawn:
        raise InputError("--items and --drawn", "one of them", "leave one out")
    if items:
        return LabelledParts(items, split, seed), f"{', '.join(str(path) for path in items)} ({split})"
    return DrawnParts(drawn or BASE_KINDS, seed), "drawn"


def _cameras(mode: Mode, cameras: int | None, workload: Workload) -> int:
    if mode is not Mode.MULTI_STREAM and cameras is not None:
        raise InputError(f"--cameras in the mode {mode.value}", "--mode multi-stream", "add it, or leave out --cameras")
    if mode is Mode.MULTI_STREAM and workload is Workload.COLD_START:
        raise InputError("several cameras on a cold start", "another workload", "choose another --workload")
    return (cameras or CAMERAS) if mode is Mode.MULTI_STREAM else 1


def _replaying(replay: bool, together: int) -> bool:
    if replay and together > 1:
        raise InputError("--replay with several cameras", "one photo at a time", "leave one of them out")
    return replay


def _warm_up(workload: Workload, num_parts: int, soak: bool) -> int:
    """Return how many moments are left out: on a line every part was seen once."""
    if soak:
        return 0
    if workload is Workload.COLD_START:
        return COLD_WARM_UP
    return max(WARM_UP, num_parts) if workload is Workload.PART_CHANGE else WARM_UP


def _measure(bundles: list[Bundle], plan: Plan, plot: Path | None, json_file: Path | None, force: bool) -> bool:
    """Run and show; False when drafts changed a reply or an event was wrong."""
    from judo_edge.bench.plot import svg_from_report
    from judo_edge.bench.session import run_bench
    from judo_edge.bench.table import comparison_table, equality_text, peer_table, score_text, stage_table

    with _rounds(plan) as progress:
        report = run_bench(bundles, plan, progress)
    for row in report.rows:
        _print(stage_table(row), f"{row.bundle} on {report.setting.engine}")
    _print(comparison_table(report), _setting_text(plan, report.setting.repeated_photos))
    if report.peers:
        _print(peer_table(report), "")
    for row in report.rows:
        typer.echo(equality_text(row))
    if report.score:
        typer.echo(score_text(report.score))
    _write(plot, svg_from_report(report), force)
    _finish(report.to_json(), json_file, force)
    return report.is_lossless and report.is_orderly


def _soak(bundles: list[Bundle], plan: Plan, plot: Path | None, json_file: Path | None, force: bool) -> bool:
    """Run for long and show; False when a frame was lost or an event was wrong."""
    from judo_edge.bench.session import run_soak
    from judo_edge.bench.table import soak_table

    if len(bundles) > 1 or plot is not None or plan.workload is Workload.COLD_START:
        found = "--soak with several bundles, a plot or cold starts"
        raise InputError(found, "one bundle on another workload", "leave the rest out")
    with _rounds(plan) as progress:
        report = run_soak(bundles[0], plan, progress)
    _print(soak_table(report), _setting_text(plan, 0))
    for example in report.examples:
        noted(example)
    _finish(report.model_dump_json(), json_file, force)
    return report.is_orderly


def _predict(
    bundles: list[Bundle],
    model: str,
    passes_from: Path | None,
    assume: str,
    devices: Path | None,
    json_file: Path | None,
    force: bool,
) -> None:
    """Show what the formula says of a device."""
    from judo_edge.bench.devices import device_table
    from judo_edge.bench.prediction import part_from_report, part_from_text, predicted
    from judo_edge.bench.report import report_from_file
    from judo_edge.bench.table import formula_table, prediction_table

    if not model or len(bundles) != 1 or (passes_from is None) == (not assume):
        found = "a prediction without its parts"
        raise ConfigError(found, "one bundle, --model DEVICE, and --from FILE or --assume PASSES", "give just these")
    table = device_table(devices)
    device = table.named(model)
    if passes_from is not None:
        part, origin = part_from_report(report_from_file(passes_from), bundles[0])
    else:
        part, origin = part_from_text(assume), f"assumed: {assume}"
    prediction = predicted(bundles[0], device, table, part, origin)
    _print(formula_table(prediction), "the formula on published figures")
    _print(prediction_table(prediction), f"{device.title}: predicted, not measured; passes {origin}")
    _finish(prediction.model_dump_json(), json_file, force)


@contextmanager
def _rounds(plan: Plan) -> Iterator[Progress]:
    """Yield what tells a bar how far the run is; it is shown from the first round on, so refusals come without it."""
    from judo_edge.terminal import bar

    with ExitStack() as stack:
        shown = bar()
        task = shown.add_task(plan.workload.value, total=plan.warm_up + plan.rounds, state="")

        def progress(done: int) -> None:
            if not shown.live.is_started:
                stack.enter_context(shown)
            shown.update(task, completed=done)

        yield progress


def _setting_text(plan: Plan, repeated: int) -> str:
    frames = plan.rounds * plan.cameras
    text = f"{plan.workload.value}: {frames} photos, {plan.cameras} at a time, {plan.source}, seed {plan.seed}"
    again = f"; {repeated} photos were shown before" if repeated else ""
    rest = f"; {plan.pause_ms:g} ms of rest before each turn" if plan.pause_ms else ""
    return f"{text}; the first {plan.warm_up} moments left out{again}{rest}"


def _print(table: Table, caption: str) -> None:
    from judo_edge.terminal import print_table

    print_table(*table, caption)


def _write(path: Path | None, text: str, force: bool) -> None:
    from judo_edge.files import write_atomic

    if path is not None:
        write_atomic(path, text.encode(), force)
        typer.echo(f"written: {path}")


def _finish(content: str, json_file: Path | None, force: bool) -> None:
    """Write the report if asked, and print it as the last line."""
    _write(json_file, f"{content}\n", force)
    typer.echo(content)
