"""From a bundle to the plans of all its graphs, one process for each graph, each plan kept as soon as it is sealed.

Knows bundles and plans; the builder itself runs elsewhere (`worker`). An interrupted build goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from judo_edge.bundle import Bundle, GraphEntry
from judo_edge.errors import PlanError
from judo_edge.export.tensorrt.job import DEFAULT_WORKSPACE, BuildJob, Built
from judo_edge.export.tensorrt.memory import Estimate, estimate_from_weights
from judo_edge.export.tensorrt.process import run_job
from judo_edge.export.tensorrt.report import HeadFacts
from judo_edge.plans import DEFAULT_TOKENS, PlanHeader, check_environment, fixed_sizes, profiles_of, shapes_in

if TYPE_CHECKING:
    from judo_edge.plans import Environment, PlanStore

Progress = Callable[[str, str], None]
"""Is told the graph and the step at work on it."""


@dataclass(frozen=True)
class BuildSettings:
    """What a user may choose."""

    max_tokens: int = DEFAULT_TOKENS
    """Positions of prompt and reply together."""
    workspace: int = DEFAULT_WORKSPACE
    """Bytes of scratch memory for a kernel."""
    ahead: bool = False
    """The GPU to build for is not here."""
    force: bool = False
    """Build also what is there already."""


@dataclass(frozen=True)
class Step:
    """One graph of the work ahead."""

    job: BuildJob
    estimate: Estimate
    kept: bool
    """An authentic plan with the same profiles is there."""


def rebuild_command(bundle: Bundle, environment: Environment, settings: BuildSettings) -> str:
    """Return the command that makes a bundle's plans anew."""
    tokens = "" if settings.max_tokens == DEFAULT_TOKENS else f" --max-tokens {settings.max_tokens}"
    return f"judo-edge build {bundle.folder} --backend {environment.backend}{tokens}"


def build_steps(
    bundle: Bundle, environment: Environment, store: PlanStore, settings: BuildSettings | None = None
) -> tuple[Step, ...]:
    """Return what building a bundle comes to, one step for each graph in running order; nothing is built.

    Raises PlanError when the environment is not supported, the store lies in the bundle, or the bundle is for another
    engine.
    """
    chosen = settings or BuildSettings()
    check_environment(environment, bundle.manifest.dialect, rebuild_command(bundle, environment, chosen))
    _check_store(bundle, store.folder)
    names = ("vision", *bundle.manifest.decoder)
    return tuple(_step(bundle, name, environment, store, chosen) for name in names)


def build_plans(steps: tuple[Step, ...], progress: Progress = lambda graph, step: None) -> Iterator[Built]:
    """Build what is not there yet and yield what each graph took.

    Raises PlanError for a graph that the builder refuses or dies on; plans made before stay.
    """
    for step in steps:
        graph = step.job.header.graph
        progress(graph, "kept" if step.kept else "building")
        if step.kept:
            size = step.job.plan_path.stat().st_size
            yield Built(graph=graph, plan_bytes=size, seconds=0, peak_bytes=0, kernels=0, kept=True)
        else:
            yield run_job(step.job, partial(progress, graph))


def _step(bundle: Bundle, name: str, environment: Environment, store: PlanStore, settings: BuildSettings) -> Step:
    path, entry = bundle.graph(name)
    dialect, inputs = bundle.manifest.dialect, {key: spec.shape for key, spec in entry.inputs.items()}
    profiles = profiles_of(inputs, dialect, settings.max_tokens)
    header = PlanHeader(bundle=bundle.content_digest, graph=name, environment=environment, profiles=profiles)
    shapes = tuple(shapes_in(profile, inputs, dialect) for profile in profiles)
    job = BuildJob(
        onnx=path,
        store=store.folder,
        header=header,
        shapes=shapes,
        sizes=fixed_sizes(inputs, shapes),
        workspace=settings.workspace,
        ahead=settings.ahead,
        facts=_facts(bundle, entry, settings.max_tokens),
    )
    weights = sum(bundle.manifest.files[file].bytes for file in (entry.file, entry.data))
    kept = not settings.force and store.holds(header)
    return Step(job, estimate_from_weights(weights, settings.workspace, environment), kept)


def _facts(bundle: Bundle, entry: GraphEntry, max_tokens: int) -> HeadFacts:
    """Return the heads of a graph with a cache of fixed capacity."""
    model = bundle.manifest.model
    if not any(name.startswith("past_key_") for name in entry.inputs):
        return HeadFacts()
    return HeadFacts(heads=model.num_heads, kv_heads=model.num_kv_heads, head_dim=model.head_dim, capacity=max_tokens)


def _check_store(bundle: Bundle, folder: Path) -> None:
    inside = bundle.folder.resolve()
    if inside in (folder.resolve(), *folder.resolve().parents):
        raise PlanError(f"{folder} lies in the bundle {bundle.folder}", "a folder of its own", "choose another --out")
