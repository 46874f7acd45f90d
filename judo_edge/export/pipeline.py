"""Export: checkpoint and adapters in, bundle out. The order of the steps; each step lives in its own file.

Everything that can be refused is refused before the output folder is touched; then weights stream to disk a few rows
at a time, in a work folder from which an interrupted export goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import judo_edge
from judo_edge.bundle import BundleWriter, check_output
from judo_edge.errors import AdapterError, CheckpointError, ConfigError
from judo_edge.export.graphs import Dialect
from judo_edge.export.inputs import SourceHashes, created_now
from judo_edge.export.job import Job, Order, prepared
from judo_edge.export.preflight import Preflight, check_room
from judo_edge.export.probe import chosen_probe
from judo_edge.export.recipe import Recipe, load_recipe
from judo_edge.export.resume import WorkFolder
from judo_edge.export.stream import write_layout


@dataclass(frozen=True)
class ExportProgress:
    """Where the export stands."""

    step: str
    """`reading`, `tracing`, the name of a graph, `embedding`, `prefix`, `source` (hashing the checkpoint) or `hashing`
    (the bundle)."""
    done: int
    """Bytes done: of weights while they are written, of files while they are hashed."""
    total: int
    """Bytes of weights in the bundle, or of the files to hash; 0 while it is not known yet."""


Progress = Callable[[ExportProgress], None]
Warn = Callable[[str], None]
"""Is told, on one line, what may go wrong."""


def export_bundle(
    checkpoint: str | Path,
    adapters: Sequence[str | Path] = (),
    recipe: str | Path = "cpu-int8",
    out: str | Path = "bundle",
    profile: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    *,
    calibration: str | Path | None = None,
    restart: bool = False,
    probe: str | Path | None = None,
    no_probe: bool = False,
) -> Path:
    """Export a checkpoint folder (or the name of a shipped one) with its adapters to the bundle folder `out`.

    Returns `out`. Raises OutputError, CheckpointError, AdapterError, ConfigError, InputError; then `out` is unchanged.
    What an interruption or a full disk leaves, the next call with the same inputs goes on with; `restart` discards it.
    """
    order = export_order(
        checkpoint, adapters, recipe, out, profile,
        force=force, calibration=calibration, restart=restart, probe=probe, no_probe=no_probe,
    )  # fmt: skip
    return export(order, progress)


def export_order(
    checkpoint: str | Path,
    adapters: Sequence[str | Path] = (),
    recipe: str | Path = "cpu-int8",
    out: str | Path = "bundle",
    profile: str | Path | None = None,
    *,
    calibration: str | Path | None = None,
    dialect: str = "",
    force: bool = False,
    restart: bool = False,
    probe: str | Path | None = None,
    no_probe: bool = False,
) -> Order:
    """Find what the names mean; `dialect` replaces the recipe's when given.

    `probe` is the file of a cell probe; without it the checkpoint's own is exported, unless `no_probe` is given.

    Raises OutputError when `out` may not be written, ConfigError, CheckpointError or AdapterError for unknown names.
    """
    check_output(Path(out), force)
    chosen = load_recipe(recipe)
    if dialect:
        chosen = _with_dialect(chosen, dialect)
    folder = checkpoint_folder(checkpoint)
    return Order(
        folder,
        [adapter_folder(folder, item) for item in adapters],
        chosen,
        Path(out),
        Path(profile) if profile else None,
        Path(calibration) if calibration else None,
        force,
        restart,
        chosen_probe(folder, Path(probe) if probe else None, not no_probe),
    )


def export(order: Order, progress: Progress | None = None, warn: Warn = lambda _: None) -> Path:
    """Carry out an order; `export_bundle` says what it raises."""
    report = progress or (lambda _: None)
    job = prepared(order, lambda step: report(ExportProgress(step, 0, 0)))
    needed = job.preflight()
    check_room(needed, order.out, warn)
    with WorkFolder(order.out, job.inputs, created_now(), job.plan.num_bytes, order.restart) as work:
        hashed = _Counter("hashing", 0, needed.hashed, report)
        with (
            BundleWriter(order.out, order.force, work.bundle, hashed) as writer,
            SourceHashes(job.weights.checkpoint, work.journal.hashes, work.note_hash) as source,
        ):
            _write(job, work, report)
            digest = source.digest(lambda done, total: report(ExportProgress("source", done, total)))
            return writer.commit(job.manifest(work.journal.created, digest))


def preflight(order: Order, progress: Progress | None = None) -> Preflight:
    """Say what an export would need and how long it would take; leaves nothing behind and raises what it would."""
    report = progress or (lambda _: None)
    return prepared(order, lambda step: report(ExportProgress(step, 0, 0))).preflight(with_time=True)


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


def _with_dialect(recipe: Recipe, dialect: str) -> Recipe:
    known = get_args(Dialect)
    if dialect not in known:
        raise ConfigError(f"dialect {dialect!r}", f"one of {', '.join(known)}")
    return Recipe.model_validate({**recipe.model_dump(), "dialect": dialect})


def _write(job: Job, work: WorkFolder, report: Progress) -> None:
    """Fill the folder, from where an earlier export stopped."""
    for name, content in job.small_files().items():
        (work.bundle / name).write_bytes(content)
    done = work.journal.done
    for step, layout in job.layouts.items():
        counter = _Counter(step, done, work.journal.total, report)
        write_layout(
            work.bundle / layout.file, layout, counter, work.forms_of(layout.file), work.completed(layout.file)
        )
        done = counter.done
    work.sync()


class _Counter:
    """Adds up the bytes of a step."""

    def __init__(self, step: str, done: int, total: int, report: Progress) -> None:
        self.step, self.done, self.total, self.report = step, done, total, report

    def __call__(self, count: int) -> None:
        self.done += count
        self.report(ExportProgress(self.step, self.done, self.total))
