"""A whole calibration: the chain of steps over a working folder, then the folder that export reads.

Knows the order, what a run depends on, and how it goes on after an interruption. Needs torch and transformers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from judo_edge.calibration.file import PLOT_NAME, PREFIX_TENSOR, TENSORS_NAME, CalibrationFile, Settings
from judo_edge.calibration.job import Job
from judo_edge.calibration.plot import svg_from_layers
from judo_edge.calibration.samples import PairSet
from judo_edge.calibration.scratch import Scratch
from judo_edge.calibration.steps import Step, StepResult, Subject
from judo_edge.calibration.work import WorkFolder
from judo_edge.calibration.writer import ArraySource, check_target, seal_folder, write_arrays
from judo_edge.core import Floats
from judo_edge.errors import OutputError
from judo_edge.files import output_errors, put_in_place

_SPARE = 64 << 20


@dataclass(frozen=True)
class CalibrationProgress:
    """Where a run stands."""

    step: str
    """Part of the model, and what is done with it."""
    done: int
    """Records that have passed, of one photo or pair through one part."""
    total: int


Progress = Callable[[CalibrationProgress], None]


def calibrate(
    subject: Subject,
    chosen: PairSet,
    out: Path,
    settings: Settings | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> CalibrationFile:
    """Measure a model on pairs and write the folder `out`.

    Interrupted, it keeps `<out>.partial`, and the same call goes on from the last finished part. Raises OutputError
    when `out` exists and `force` is not given, or when the disk has no room; CheckpointError for a missing tensor.
    """
    check_target(out, force)
    job = Job.of(subject, chosen, settings or Settings())
    steps = job.steps()
    with WorkFolder(out, job.key) as work:
        check_space(work, steps)
        with torch.no_grad():
            run_steps(steps, work, progress or (lambda _: None))
        file = _collect(work, steps, job)
        check_target(out, force)
        with output_errors(out):
            put_in_place(work.folder / "done", out)
        work.remove()
    return file


def run_steps(steps: Sequence[Step], work: WorkFolder, progress: Progress) -> None:
    """Run the steps that are not finished; each reads what the one before wrote. To be called without gradients."""
    totals = [max(1, len(step.lengths)) for step in steps]
    counter = _Counter(sum(totals), progress)
    for number, step in enumerate(steps):
        if work.step(number) is not None:
            counter.skip(totals[number])
            continue
        with Scratch(work.hidden(number), step.lengths, step.width) as target:
            result = _result_of(steps, number, work, target, counter.tick)
        work.finish(number, result.file, result.arrays)
    work.hidden(len(steps) - 1).unlink(missing_ok=True)


def _result_of(
    steps: Sequence[Step], number: int, work: WorkFolder, target: Scratch, tick: Callable[[str, int], None]
) -> StepResult:
    if number == 0:
        return steps[0].run(None, target, tick)
    before = steps[number - 1]
    with Scratch(work.hidden(number - 1), before.lengths, before.width) as source:
        return steps[number].run(source, target, tick)


class _Counter:
    """Adds up records over the steps."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._done, self._progress = total, 0, progress

    def skip(self, count: int) -> None:
        self.tick("finished before", count)

    def tick(self, step: str, count: int) -> None:
        self._done = min(self._total, self._done + count)
        self._progress(CalibrationProgress(step, self._done, self._total))


class _StackedPrefix:
    """Keys and values of all layers (P, L, 2, 1, Hkv, hd), stacked when they are written."""

    def __init__(self, layers: Sequence[ArraySource]) -> None:
        self._layers = layers
        positions, *rest = layers[0].shape
        self.shape = (positions, len(layers), *rest)

    def load(self) -> Floats:
        return np.stack([layer.load() for layer in self._layers], axis=1)


def _collect(work: WorkFolder, steps: Sequence[Step], job: Job) -> CalibrationFile:
    """Write the three files of the output into the working folder."""
    folder, provenance = work.folder / "done", job.provenance
    files = [file for number in range(len(steps)) if (file := work.step(number))]
    content = CalibrationFile(
        files={},
        provenance=provenance,
        prefix_ids=tuple(int(i) for i in job.prefix),
        linears=tuple(entry for file in files for entry in file.linears),
        layers=tuple(file.layer for file in files if file.layer is not None),
    )
    title = "+".join([provenance.source.checkpoint, *(item.name for item in provenance.source.adapters)])
    shutil.rmtree(folder, ignore_errors=True)
    with output_errors(folder):
        folder.mkdir()
        write_arrays(folder / TENSORS_NAME, _arrays_of(work, len(steps)))
        plot = svg_from_layers(content.layers, content.linears, title)
        (folder / PLOT_NAME).write_text(plot, encoding="utf-8")
        return seal_folder(folder, content, (TENSORS_NAME, PLOT_NAME))


def _arrays_of(work: WorkFolder, num_steps: int) -> dict[str, ArraySource]:
    """Return every array of the finished parts, the prefix of all layers as one."""
    arrays: dict[str, ArraySource] = {}
    prefixes: list[ArraySource] = []
    for number in range(num_steps):
        found: dict[str, ArraySource] = dict(work.arrays(number))
        prefixes += [found.pop(PREFIX_TENSOR)] if PREFIX_TENSOR in found else []
        arrays |= found
    return {**arrays, PREFIX_TENSOR: _StackedPrefix(prefixes)}


def check_space(work: WorkFolder, steps: Sequence[Step]) -> None:
    """Raise OutputError when the disk has no room for the hidden states of two steps in a row."""
    sizes = [Scratch(work.folder, step.lengths, step.width).num_bytes for step in steps]
    wanted = max(a + b for a, b in pairwise(sizes)) + _SPARE
    present = sum(path.stat().st_size for path in work.folder.glob("hidden-*"))
    free = shutil.disk_usage(work.folder).free + present
    if free < wanted:
        found = f"{work.folder} has {free / 1e9:.2f} GB free"
        action = "free space, use fewer pairs or choose another folder"
        raise OutputError(found, f"{wanted / 1e9:.2f} GB for hidden states", action)
