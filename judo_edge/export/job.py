"""An export with all its decisions made: what goes into which file, the manifest, what it will need.

Reads headers and small files, traces the graphs and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from judo_edge.bundle import Manifest
from judo_edge.calibration import Calibration, open_calibration
from judo_edge.export.adapter import open_adapter
from judo_edge.export.checkpoint import open_checkpoint
from judo_edge.export.facts import PROFILE, TOKENIZER
from judo_edge.export.graphs.fake import config_from
from judo_edge.export.inputs import created_now, export_inputs, tool_versions
from judo_edge.export.lora import MergedWeights, source_of
from judo_edge.export.plan import EMBEDDING_FILE, PREFIX_FILE, Plan, plan_export
from judo_edge.export.preflight import Preflight, preflight_of
from judo_edge.export.probe import CellProbe, check_source, open_probe
from judo_edge.export.recipe import Recipe
from judo_edge.export.resume import check_work
from judo_edge.export.stream import Layout, graph_bytes, graph_layout, table_layout
from judo_edge.files import sha256_of_bytes

_NO_DIGEST = "0" * 64


@dataclass(frozen=True)
class Order:
    """What is to be exported, and where to."""

    checkpoint: Path
    adapters: Sequence[Path]
    recipe: Recipe
    out: Path
    profile: Path | None = None
    """Prompt profile; None takes the checkpoint's own."""
    calibration: Path | None = None
    force: bool = False
    """Replace an earlier bundle."""
    restart: bool = False
    """Discard an unfinished export instead of going on with it."""
    probe: Path | None = None
    """File of the cell probe; None exports without one."""


@dataclass(frozen=True)
class Job:
    """An order with all its decisions made."""

    order: Order
    weights: MergedWeights
    plan: Plan
    layouts: dict[str, Layout]
    """Step -> data file, in the order of writing."""
    inputs: dict[str, str]
    """Name -> identity of all that decides the bundle's bytes."""

    def small_files(self) -> dict[str, bytes]:
        """Return every file except data and manifest: graphs, tokenizer, profile."""
        graphs = {
            item.entry.file: graph_bytes(item.graph.model, self.layouts[name])
            for name, item in self.plan.graphs.items()
        }
        return {**graphs, TOKENIZER: self.plan.tokenizer.read_bytes(), PROFILE: self.plan.profile.read_bytes()}

    def manifest(self, created: str, digest: str) -> Manifest:
        """Return the manifest without its files; `digest` is the checkpoint's."""
        plan, recipe = self.plan, self.order.recipe
        source = source_of(self.weights.checkpoint, self.weights.adapters, digest)
        return Manifest(
            name=f"{'+'.join([source.checkpoint, *(item.name for item in source.adapters)])}-{recipe.name}",
            created=created,
            tools=tool_versions(),
            source=source,
            model=plan.model,
            recipe=recipe.model_dump(mode="json"),
            graphs={name: item.entry for name, item in plan.graphs.items()},
            decoder=plan.decoder,
            dialect=recipe.dialect,
            dtype=recipe.dtype,
            calibration=plan.calibration,
            prefix=plan.prefix_entry,
            probe=plan.probe,
            embedding=plan.embedding,
            tokenizer=TOKENIZER,
            profile=PROFILE,
            preprocessing=plan.preprocessing,
            decisions=plan.decisions,
        )

    def preflight(self, with_time: bool = False) -> Preflight:
        """Return what the export will need; `with_time` measures for a second or two to say how long it takes."""
        files = {layout.file: layout.num_bytes for layout in self.layouts.values()}
        files |= {name: len(content) for name, content in self.small_files().items()}
        manifest = self.manifest(created_now(), _NO_DIGEST)
        source = sum(path.stat().st_size for path in self.weights.checkpoint.files)
        return preflight_of(self.order.out, files, manifest, list(self.layouts.values()), source, with_time)


def prepared(order: Order, step: Callable[[str], None]) -> Job:
    """Make every decision; `step` is told `reading` and `tracing`.

    Raises CheckpointError, AdapterError, ConfigError or InputError for what does not fit, OutputError when an
    unfinished export of other inputs is in the way.
    """
    step("reading")
    weights, probe = _opened(order)
    calibration = open_calibration(order.calibration) if order.calibration else None
    inputs = _inputs(order, weights, calibration, probe)
    check_work(order.out, inputs, order.restart)
    step("tracing")
    plan = plan_export(weights, order.recipe, order.profile, calibration, probe)
    layouts = _layouts(plan)
    description = json.dumps([layout.description() for layout in layouts.values()])
    return Job(order, weights, plan, layouts, {**inputs, "layout of files": sha256_of_bytes(description.encode())})


def _opened(order: Order) -> tuple[MergedWeights, CellProbe | None]:
    """Open checkpoint and adapters, and the probe with its tensors among those of the checkpoint."""
    checkpoint, adapters = open_checkpoint(order.checkpoint), [open_adapter(folder) for folder in order.adapters]
    if order.probe is None:
        return MergedWeights(checkpoint, adapters), None
    probe = open_probe(order.probe, config_from(checkpoint.config).text_config)
    check_source(probe, checkpoint, adapters)
    return MergedWeights(probe.joined(checkpoint), adapters), probe


def _inputs(
    order: Order, weights: MergedWeights, calibration: Calibration | None, probe: CellProbe | None
) -> dict[str, str]:
    digests = (calibration.digest if calibration else "", probe.digest if probe else "")
    return export_inputs(weights, order.recipe, order.profile, *digests)


def _layouts(plan: Plan) -> dict[str, Layout]:
    layouts = {name: graph_layout(item.graph.model, item.entry.data, item.forms) for name, item in plan.graphs.items()}
    layouts["embedding"] = table_layout(EMBEDDING_FILE, plan.table)
    if plan.prefix:
        layouts["prefix"] = table_layout(PREFIX_FILE, plan.prefix)
    return layouts
