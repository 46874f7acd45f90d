"""Command of the device: build the TensorRT plans of a bundle, or say what that will take."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judo_edge.cli.app import BundleName, Force, app, noted, opened_bundle
from judo_edge.errors import ConfigError

if TYPE_CHECKING:
    from judo_edge.export.tensorrt import Built, Step
    from judo_edge.plans import Environment

_MIB = 1 << 20


class BackendName(str, Enum):
    """The builders."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt_rtx"


@app.command()
def build(
    bundle: BundleName,
    backend: Annotated[BackendName, typer.Option("--backend", help="Builder to use.")] = BackendName.TENSORRT,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Positions of prompt and reply together.")] = 1536,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the plans; the user's cache if not given.")
    ] = None,
    compute_capability: Annotated[
        str | None, typer.Option("--compute-capability", help="GPU that is not here, e.g. 8.6; tensorrt_rtx only.")
    ] = None,
    workspace: Annotated[int, typer.Option("--workspace", min=16, help="Scratch memory of a kernel, MiB.")] = 1024,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what will be built and what it takes.")] = False,
    force: Force = False,
) -> None:
    """Build the TensorRT plans of a bundle for this machine; plans that are there already are kept."""
    from judo_edge.export.tensorrt import BuildSettings, build_steps
    from judo_edge.plans import PlanStore, current_environment, key_of_user, plans_folder

    if compute_capability is not None and backend is not BackendName.TENSORRT_RTX:
        action = "leave it out: TensorRT builds only for the GPU it runs on"
        raise ConfigError("--compute-capability", "--backend tensorrt_rtx", action)
    opened = opened_bundle(bundle)
    environment = current_environment(backend.value, compute_capability)
    store = PlanStore(out or plans_folder(), key_of_user())
    settings = BuildSettings(max_tokens, workspace * _MIB, compute_capability is not None, force)
    steps = build_steps(opened, environment, store, settings)
    _show_steps(steps, environment)
    if not dry_run:
        _build(steps)


def _show_steps(steps: tuple[Step, ...], environment: Environment) -> None:
    """Print what each graph will take, and warn where memory will not do."""
    from judo_edge.bundle.info import size_text
    from judo_edge.machine import available_memory
    from judo_edge.terminal import print_table

    rows = [
        (
            step.job.header.graph,
            size_text(step.estimate.weights),
            "-" if step.kept else size_text(step.estimate.peak),
            "there already" if step.kept else "to build",
        )
        for step in steps
    ]
    print_table(("graph", "weights", "estimated peak", "plan"), rows, f"for {environment}")
    free = available_memory()
    for step in steps:
        if free is not None and not step.kept and step.estimate.peak > free:
            text = f"{step.job.header.graph} needs about {size_text(step.estimate.peak)}, {size_text(free)} are free"
            noted(f"warning: {text}: close programs, or export with fewer layers_per_segment")


def _build(steps: tuple[Step, ...]) -> None:
    from judo_edge.bundle.info import size_text
    from judo_edge.export.tensorrt import build_plans
    from judo_edge.terminal import bar, print_table

    rows = []
    with bar() as progress:
        task = progress.add_task("building", total=len(steps), state="")

        def tell(graph: str, step: str) -> None:
            progress.update(task, description=graph, state=step)

        for built in build_plans(steps, tell):
            rows.append(_row(built))
            progress.advance(task)
    print_table(("graph", "plan", "peak memory", "time", "kernels"), rows)
    total = sum(step.job.plan_path.stat().st_size for step in steps)
    typer.echo(f"{steps[0].job.plan_path.parent}: {len(steps)} plans, {size_text(total)}")


def _row(built: Built) -> tuple[str, ...]:
    from judo_edge.bundle.info import size_text

    if built.kept:
        return built.graph, size_text(built.plan_bytes), "kept", "", ""
    peak, seconds = size_text(built.peak_bytes), f"{built.seconds:.1f} s"
    return built.graph, size_text(built.plan_bytes), peak, seconds, str(built.kernels)
