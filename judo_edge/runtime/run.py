"""A run: every item of a source gets one inspection, in order. Knows nothing of outputs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from judo_edge.core import Frame, Timing
from judo_edge.runtime.inspection import Inspection, undecidable
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.sources.folder import Unreadable
from judo_edge.runtime.stages import Emit, unheard

Inspected = tuple[Frame | Unreadable, Inspection]


def inspected(inspector: Inspector, source: Iterable[Frame | Unreadable], emit: Emit = unheard) -> Iterator[Inspected]:
    """Yield each item of a source with its inspection; the time to get the item is its `load` stage.

    `emit` is told what becomes known of a frame; of an item that cannot be read there is nothing to tell.
    """
    items = iter(source)
    while True:
        started = time.perf_counter()
        item = next(items, None)
        if item is None:
            return
        load = time.perf_counter() - started
        yield item, _with_load(_inspection(inspector, item, emit), load)


def _inspection(inspector: Inspector, item: Frame | Unreadable, emit: Emit) -> Inspection:
    if isinstance(item, Unreadable):
        return Inspection(undecidable(item, item.reason))
    return inspector.look(item, emit)


def _with_load(inspection: Inspection, load: float) -> Inspection:
    seconds = {"load": load, **inspection.verdict.timing.seconds}
    return replace(inspection, verdict=replace(inspection.verdict, timing=Timing(seconds)))
