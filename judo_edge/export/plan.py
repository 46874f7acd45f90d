"""Everything that can be decided, and refused, before a byte is written: graphs, form of every tensor, space needed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx_ir as ir

from judo_edge.bundle import EmbeddingEntry, GraphEntry, ModelFacts, Preprocessing, TensorDecision, TensorSpec
from judo_edge.errors import OutputError
from judo_edge.export.facts import model_facts, preprocessing, profile_file, tokenizer_file
from judo_edge.export.forms import Float32Form, Int8BlockForm, StoredForm, TableForm
from judo_edge.export.graphs import GraphSpec, Transform, WeightUse, graphs_from_config
from judo_edge.export.lora import MergedWeights
from judo_edge.export.quantize import use_int8
from judo_edge.export.recipe import Recipe
from judo_edge.protocol.profile import load_profile

EMBEDDING_FILE = "embedding.bin"
_SMALL_FILES = 64 << 20
"""Bytes allowed for graphs, tokenizer and manifest in the estimate of space."""


@dataclass(frozen=True)
class GraphPlan:
    """One graph and the form of each of its weights."""

    graph: GraphSpec
    forms: tuple[StoredForm, ...]
    entry: GraphEntry


@dataclass(frozen=True)
class Plan:
    """All that the writing step needs."""

    graphs: dict[str, GraphPlan]
    table: TableForm
    model: ModelFacts
    preprocessing: Preprocessing
    decisions: dict[str, TensorDecision]
    tokenizer: Path
    profile: Path

    @property
    def num_bytes(self) -> int:
        """Return the bytes of weights that will be written."""
        forms = [*(form for plan in self.graphs.values() for form in plan.forms), self.table]
        return sum(part.num_bytes for form in forms for part in form.parts)

    @property
    def embedding(self) -> EmbeddingEntry:
        """Describe the token table."""
        rows, width = self.table.use.shape
        return EmbeddingEntry(file=EMBEDDING_FILE, dtype=self.table.label, shape=(rows, width))


def plan_export(weights: MergedWeights, recipe: Recipe, profile: Path | None) -> Plan:
    """Trace the graphs, choose a form for every tensor and check that the checkpoint has it.

    Raises CheckpointError or ConfigError that names the first thing that is missing or does not fit.
    """
    checkpoint = weights.checkpoint
    profile = profile_file(checkpoint.folder, profile)
    image_size = load_profile(profile).image_size
    model, pixels = model_facts(checkpoint.folder, checkpoint.config), preprocessing(checkpoint.folder, image_size)
    exported = graphs_from_config(checkpoint.config, image_size)
    uses = [*(use for graph in exported.all for use in graph.weights.values()), exported.embedding]
    for use in uses:
        _check_use(weights, use)
    recipe.check_patterns([use.name for use in uses])
    for graph in exported.all:
        drop_notes(graph.model)
    graphs = {graph.name: _graph_plan(graph, weights, recipe) for graph in exported.all}
    table = TableForm(weights, exported.embedding, recipe.embedding)
    decisions = _decisions(graphs, table, weights, recipe)
    return Plan(graphs, table, model, pixels, decisions, tokenizer_file(checkpoint.folder), profile)


def check_space(out: Path, num_bytes: int) -> None:
    """Raise OutputError when the disk of `out` has no room for the bundle."""
    folder = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free, wanted = shutil.disk_usage(folder).free, num_bytes + _SMALL_FILES
    if free < wanted:
        found = f"{folder} has {free / 1e9:.2f} GB free"
        raise OutputError(found, f"{wanted / 1e9:.2f} GB for {out.name}", "free space or choose another folder")


def drop_notes(model: ir.Model) -> None:
    """Remove what the tracer noted beside the graph: source lines and paths of the machine it ran on."""
    holders: list[ir.Model | ir.Graph | ir.Node | ir.Value] = [model, model.graph, *model.graph.inputs]
    holders += model.graph.initializers.values()
    for node in model.graph:
        holders += [node, *node.outputs]
    for holder in holders:
        holder.metadata_props.clear()
        holder.doc_string = None


def _check_use(weights: MergedWeights, use: WeightUse) -> None:
    """Compare a tensor's shape with the traced one; a patch kernel's axes after the first count as one."""
    wanted = use.shape if use.transform is Transform.AS_IS else use.shape[::-1]
    stored = weights.checkpoint.tensor(use.tensor).shape
    if use.transform is Transform.PATCH and (*stored[:1], prod(stored[1:])) == wanted:
        wanted = stored
    weights.checked(use.tensor, wanted)


def _graph_plan(graph: GraphSpec, weights: MergedWeights, recipe: Recipe) -> GraphPlan:
    """Choose the forms and let the graph read them."""
    forms: list[StoredForm] = []
    quantized = set()
    for linear in graph.linears:
        if (form := recipe.int8) and recipe.form_of(graph.name, linear) == "int8-block":
            use_int8(graph, linear, form)
            forms.append(Int8BlockForm(weights, linear, form))
            quantized.add(linear.weight)
    plain = [Float32Form(weights, use) for name, use in graph.weights.items() if name not in quantized]
    return GraphPlan(graph, (*plain, *forms), _entry(graph))


def _entry(graph: GraphSpec) -> GraphEntry:
    inputs, outputs = (
        {spec.name: TensorSpec(dtype=spec.dtype.lower(), shape=spec.shape) for spec in specs}
        for specs in (graph.inputs, graph.outputs)
    )
    file = f"{graph.name}.onnx"
    opset = graph.model.opset_imports[""]
    return GraphEntry(file=file, data=f"{file}.data", opset=opset, inputs=inputs, outputs=outputs)


def _decisions(
    graphs: dict[str, GraphPlan], table: TableForm, weights: MergedWeights, recipe: Recipe
) -> dict[str, TensorDecision]:
    """Record the form of every tensor of the graphs and the table, and every tensor of the checkpoint left out."""
    decisions: dict[str, TensorDecision] = {}
    used = set()
    for plan in graphs.values():
        for form in plan.forms:
            use = plan.graph.weights[_weight_of(form)]
            decisions[use.name] = _decision(weights, use, form.label, plan.entry.data, recipe)
            used.add(use.tensor)
    decisions[table.use.name] = _decision(weights, table.use, table.label, EMBEDDING_FILE, recipe)
    for name in weights.checkpoint.tensors.keys() - used - {table.use.tensor}:
        dtype = weights.checkpoint.tensors[name].dtype
        decisions[name] = TensorDecision(form="unused", dtype=dtype, reason="no graph reads it")
    return dict(sorted(decisions.items()))


def _weight_of(form: StoredForm) -> str:
    return form.linear.weight if isinstance(form, Int8BlockForm) else form.parts[0].name


def _decision(weights: MergedWeights, use: WeightUse, form: str, file: str, recipe: Recipe) -> TensorDecision:
    tensor = weights.checkpoint.tensor(use.tensor)
    reason = "keep_float" if recipe.is_kept(use.name) else ""
    reason = f"shares {use.tensor}" if use.tensor != use.name else reason
    return TensorDecision(
        form=form, stored_in=file, dtype=tensor.dtype, adapters=weights.adapters_of(use.tensor), reason=reason
    )
