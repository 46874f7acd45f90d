"""Export: checkpoint and adapters in, bundle out. The order of the steps; each step lives in its own file.

Everything that can be refused is refused before the output folder is touched; then weights stream to disk a few rows
at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import judo_edge
from judo_edge.bundle import AdapterSource, BundleWriter, Manifest, Source, check_output
from judo_edge.errors import AdapterError, CheckpointError
from judo_edge.export.adapter import Adapter, open_adapter
from judo_edge.export.checkpoint import open_checkpoint
from judo_edge.export.facts import PROFILE, TOKENIZER
from judo_edge.export.lora import MergedWeights
from judo_edge.export.plan import EMBEDDING_FILE, Plan, check_space, plan_export
from judo_edge.export.recipe import Recipe, load_recipe
from judo_edge.export.stream import write_forms, write_graph

_TOOLS = ("torch", "transformers", "onnx-ir", "onnxscript", "numpy")


@dataclass(frozen=True)
class ExportProgress:
    """Where the export stands."""

    step: str
    """`reading`, `tracing`, `vision`, `decoder`, `embedding` or `hashing`."""
    done: int
    """Bytes of weights written so far."""
    total: int
    """Bytes of weights in the bundle; 0 while it is not known yet."""


Progress = Callable[[ExportProgress], None]


def export_bundle(
    checkpoint: str | Path,
    adapters: Sequence[str | Path] = (),
    recipe: str | Path = "cpu-int8",
    out: str | Path = "bundle",
    profile: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Export a checkpoint folder (or the name of a shipped one) with its adapters to the bundle folder `out`.

    Returns `out`. Raises OutputError, CheckpointError, AdapterError or ConfigError; then `out` is as it was.
    """
    report = progress or (lambda _: None)
    target = Path(out)
    check_output(target, force)
    chosen = load_recipe(recipe)
    folder = checkpoint_folder(checkpoint)
    report(ExportProgress("reading", 0, 0))
    weights = MergedWeights(open_checkpoint(folder), [open_adapter(adapter_folder(folder, item)) for item in adapters])
    report(ExportProgress("tracing", 0, 0))
    plan = plan_export(weights, chosen, Path(profile) if profile else None)
    check_space(target, plan.num_bytes)
    with BundleWriter(target, force) as writer:
        _write(writer, plan, report)
        report(ExportProgress("hashing", plan.num_bytes, plan.num_bytes))
        return writer.commit(_manifest(plan, weights, chosen))


def shipped_checkpoints() -> dict[str, Path]:
    """Return the checkpoints inside the package by name."""
    folder = Path(judo_edge.__file__).parent / "assets"
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/config.json"))}


def checkpoint_folder(name_or_folder: str | Path) -> Path:
    """Return the folder of a shipped checkpoint, or the folder given; CheckpointError lists the shipped ones."""
    path, shipped = Path(name_or_folder), shipped_checkpoints()
    if path.is_dir():
        return path
    if str(name_or_folder) in shipped:
        return shipped[str(name_or_folder)]
    wanted = f"a checkpoint folder{', or one of ' if shipped else ''}{', '.join(shipped)}"
    raise CheckpointError(f"{name_or_folder} is not a folder", wanted)


def adapter_folder(checkpoint: Path, name_or_folder: str | Path) -> Path:
    """Return the folder of an adapter that lies beside its checkpoint under `adapters/`, or the folder given."""
    path, beside = Path(name_or_folder), checkpoint / "adapters" / name_or_folder
    if path.is_dir():
        return path
    if beside.is_dir():
        return beside
    known = ", ".join(item.name for item in sorted(checkpoint.glob("adapters/*")) if item.is_dir())
    raise AdapterError(
        f"{name_or_folder} is not a folder", f"an adapter folder{f', or one of {known}' if known else ''}"
    )


def _write(writer: BundleWriter, plan: Plan, report: Progress) -> None:
    """Fill the folder; an OSError becomes the writer's OutputError."""
    shutil.copyfile(plan.tokenizer, writer.path(TOKENIZER))
    shutil.copyfile(plan.profile, writer.path(PROFILE))
    counter = _Counter(plan.num_bytes, report)
    for name, item in plan.graphs.items():
        write_graph(item.graph.model, writer.path(item.entry.file), item.forms, counter.step(name))
    write_forms(writer.path(EMBEDDING_FILE), [plan.table], {plan.table.use.name: 0}, counter.step("embedding"))


class _Counter:
    """Adds up bytes over the steps."""

    def __init__(self, total: int, report: Progress) -> None:
        self.total, self.done, self.report = total, 0, report

    def step(self, name: str) -> Callable[[int], None]:
        def written(count: int) -> None:
            self.done += count
            self.report(ExportProgress(name, self.done, self.total))

        return written


def _manifest(plan: Plan, weights: MergedWeights, recipe: Recipe) -> Manifest:
    checkpoint = weights.checkpoint
    sources = tuple(_adapter_sources(weights.adapters))
    name = "+".join([checkpoint.folder.resolve().name, *(item.name for item in sources)])
    return Manifest(
        name=f"{name}-{recipe.name}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        tools={"judo-edge": judo_edge.__version__, **{tool: version(tool) for tool in _TOOLS}},
        source=Source(checkpoint=checkpoint.folder.resolve().name, digest=checkpoint.digest(), adapters=sources),
        model=plan.model,
        recipe=recipe.model_dump(mode="json"),
        graphs={name: item.entry for name, item in plan.graphs.items()},
        embedding=plan.embedding,
        tokenizer=TOKENIZER,
        profile=PROFILE,
        preprocessing=plan.preprocessing,
        decisions=plan.decisions,
    )


def _adapter_sources(adapters: Sequence[Adapter]) -> Iterator[AdapterSource]:
    for adapter in adapters:
        yield AdapterSource(name=adapter.name, digest=adapter.digest, tensors=len(adapter.changed))
