"""Everything that can be decided, and refused, before a byte is written: graphs, form of every tensor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx_ir as ir
from pydantic import JsonValue

from judo_edge.bundle import (
    EmbeddingEntry,
    GraphEntry,
    ModelFacts,
    PrefixEntry,
    Preprocessing,
    ProbeEntry,
    TensorDecision,
    TensorSpec,
)
from judo_edge.calibration import Calibration
from judo_edge.errors import CheckpointError, ConfigError
from judo_edge.export.facts import model_facts, preprocessing, profile_file, tokenizer_file
from judo_edge.export.forms import (
    Choice,
    FloatForm,
    PrefixForm,
    StoredForm,
    TableForm,
    all_decisions,
    choose,
    decision_of,
    quantized_form,
)
from judo_edge.export.graphs import ExportedGraphs, GraphForm, GraphSpec, Transform, WeightUse, graphs_from_config
from judo_edge.export.lora import MergedWeights
from judo_edge.export.probe import CellProbe
from judo_edge.export.quantize import LinearRewriter
from judo_edge.export.recipe import Recipe
from judo_edge.protocol.profile import load_profile

EMBEDDING_FILE = "embedding.bin"
PREFIX_FILE = "prefix.bin"


@dataclass(frozen=True)
class GraphPlan:
    """One graph and the form of each of its weights."""

    graph: GraphSpec
    forms: tuple[StoredForm, ...]
    entry: GraphEntry
    decisions: dict[str, TensorDecision]
    """By initializer of the traced graph."""


@dataclass(frozen=True)
class Plan:
    """All that the writing step needs."""

    graphs: dict[str, GraphPlan]
    """By name, in running order."""
    decoder: tuple[str, ...]
    """Graphs of the decoder in running order."""
    table: TableForm
    prefix: PrefixForm | None
    model: ModelFacts
    preprocessing: Preprocessing
    decisions: dict[str, TensorDecision]
    calibration: dict[str, JsonValue] | None
    """Provenance of the calibration, for the manifest."""
    probe: ProbeEntry | None
    tokenizer: Path
    profile: Path

    @property
    def num_bytes(self) -> int:
        """Return the bytes of weights that will be written."""
        forms = [form for plan in self.graphs.values() for form in plan.forms]
        forms += [self.table, *([self.prefix] if self.prefix else [])]
        return sum(part.num_bytes for form in forms for part in form.parts)

    @property
    def embedding(self) -> EmbeddingEntry:
        """Describe the token table."""
        rows, width = self.table.use.shape
        return EmbeddingEntry(file=EMBEDDING_FILE, dtype=self.table.label, shape=(rows, width))

    @property
    def prefix_entry(self) -> PrefixEntry | None:
        """Describe the exact keys and values of the prompt's head."""
        return PrefixEntry(file=PREFIX_FILE, ids=self.prefix.ids) if self.prefix else None


def plan_export(
    weights: MergedWeights,
    recipe: Recipe,
    profile: Path | None,
    calibration: Calibration | None = None,
    probe: CellProbe | None = None,
) -> Plan:
    """Trace the graphs, choose a form for every tensor and check that the checkpoint has it.

    The tensors of `probe` must be in `weights` already. Raises CheckpointError, ConfigError or InputError that names
    the first thing that is missing or does not fit.
    """
    checkpoint = weights.checkpoint
    _check_calibration(weights, recipe, calibration)
    profile = profile_file(checkpoint.folder, profile)
    image_size = load_profile(profile).image_size
    model, pixels = model_facts(checkpoint.folder, checkpoint.config), preprocessing(checkpoint.folder, image_size)
    exported = graphs_from_config(checkpoint.config, image_size, graph_form(recipe, probe))
    _check_uses(weights, recipe, exported)
    graphs = {graph.name: _graph_plan(graph, weights, recipe, calibration) for graph in exported.all}
    table = TableForm(weights, exported.embedding, recipe.embedding)
    prefix = _prefix(graphs.values(), model, calibration)
    provenance = _provenance(calibration)
    at_table = decision_of(weights, table.use, table.label, EMBEDDING_FILE, recipe)
    decisions = all_decisions([item.decisions for item in graphs.values()], {table.use.name: at_table}, weights)
    decoder = tuple(graph.name for graph in exported.decoder)
    tokenizer = tokenizer_file(checkpoint.folder)
    entry = probe.entry if probe else None
    return Plan(graphs, decoder, table, prefix, model, pixels, decisions, provenance, entry, tokenizer, profile)


def graph_form(recipe: Recipe, probe: CellProbe | None = None) -> GraphForm:
    """Return how a recipe wants the graphs written down, with a cell probe if there is one."""
    form = probe.form if probe else None
    return GraphForm(recipe.dialect, recipe.dtype, recipe.layers_per_segment, recipe.head_parts, form)


def drop_notes(model: ir.Model) -> None:
    """Remove what the tracer noted beside the graph: source lines and paths of the machine it ran on."""
    holders: list[ir.Model | ir.Graph | ir.Node | ir.Value] = [model, model.graph, *model.graph.inputs]
    holders += model.graph.initializers.values()
    for node in model.graph:
        holders += [node, *node.outputs]
    for holder in holders:
        holder.metadata_props.clear()
        holder.doc_string = None


def _check_calibration(weights: MergedWeights, recipe: Recipe, calibration: Calibration | None) -> None:
    """Refuse a missing calibration, and one of other weights; an unneeded one may still improve the rounding."""
    if calibration is not None:
        calibration.check_source(weights.checkpoint.digest(), tuple(item.digest for item in weights.adapters))
    elif recipe.needs_calibration:
        action = "run judo-edge calibrate on your own pairs and pass its folder with --calibration"
        raise ConfigError(f"recipe {recipe.name} without a calibration", "measured ranges and errors", action)


def _check_uses(weights: MergedWeights, recipe: Recipe, exported: ExportedGraphs) -> None:
    uses = [*(use for graph in exported.all for use in graph.weights.values()), exported.embedding]
    for use in uses:
        _check_use(weights, use)
    recipe.check_patterns([use.name for use in uses])


def _check_use(weights: MergedWeights, use: WeightUse) -> None:
    """Compare a tensor's shape with the traced one; a patch kernel's axes after the first count as one."""
    wanted = use.tensor_shape
    stored = weights.checkpoint.tensor(use.tensor).shape
    if use.transform is Transform.PATCH and (*stored[:1], prod(stored[1:])) == wanted:
        wanted = stored
    weights.checked(use.tensor, wanted)


def _graph_plan(graph: GraphSpec, weights: MergedWeights, recipe: Recipe, calibration: Calibration | None) -> GraphPlan:
    """Choose the forms and let the graph read them."""
    drop_notes(graph.model)
    rewriter = LinearRewriter(graph)
    choices: dict[str, Choice] = {}
    quantized: dict[str, StoredForm] = {}
    for linear in graph.linears:
        choices[linear.weight] = choice = choose(recipe, graph.name, linear, calibration)
        if choice.form != "float":
            use = graph.weights[linear.weight]
            quantized[use.name] = quantized_form(rewriter, weights, use, linear, choice, recipe, calibration)
    plain = {name: FloatForm(weights, use) for name, use in graph.weights.items() if name not in quantized}
    entry = _entry(graph)
    decisions = {
        name: decision_of(weights, graph.weights[name], form.label, entry.data, recipe, choices.get(name))
        for name, form in (plain | quantized).items()
    }
    return GraphPlan(graph, (*plain.values(), *quantized.values()), entry, decisions)


def _entry(graph: GraphSpec) -> GraphEntry:
    inputs, outputs = (
        {spec.name: TensorSpec(dtype=spec.dtype.lower(), shape=spec.shape) for spec in specs}
        for specs in (graph.inputs, graph.outputs)
    )
    file = f"{graph.name}.onnx"
    opset = graph.model.opset_imports[""]
    return GraphEntry(file=file, data=f"{file}.data", opset=opset, inputs=inputs, outputs=outputs)


def _prefix(graphs: Iterable[GraphPlan], model: ModelFacts, calibration: Calibration | None) -> PrefixForm | None:
    """Return the exact keys and values of the prompt's head, if any layer's activations are rounded."""
    is_static = any(item.form == "int8-static" for plan in graphs for item in plan.decisions.values())
    prefix = calibration.prefix if calibration and is_static else None
    if prefix is None:
        return None
    ids = tuple(int(i) for i in prefix.ids)
    wanted = (len(ids), model.num_layers, 2, 1, model.num_kv_heads, model.head_dim)
    if prefix.keys_values.shape != wanted:
        found = f"the calibration's prefix has shape {list(prefix.keys_values.shape)}"
        raise CheckpointError(found, f"{list(wanted)} by config.json", "calibrate again")
    return PrefixForm(ids, prefix.keys_values)


def _provenance(calibration: Calibration | None) -> dict[str, JsonValue] | None:
    if calibration is None:
        return None
    return {"digest": calibration.digest, **calibration.file.provenance.model_dump(mode="json")}
