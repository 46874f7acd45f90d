"""From a model's config to its ONNX graphs, without its weights.

Traces each kind of piece once with fake parameters (seconds; well under 1 GB for 7B), joins the pieces in the asked
form, and lists where every initializer comes from. Knows nothing of stored forms and files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from judo_edge.errors import CheckpointError, ConfigError
from judo_edge.export.graphs.fake import config_from, fake_model
from judo_edge.export.graphs.joined import JoinedGraph, decoder_graphs, vision_graph
from judo_edge.export.graphs.spec import (
    PROBE_WEIGHT,
    ExportedGraphs,
    FloatType,
    GraphForm,
    GraphSpec,
    LinearUse,
    Rows,
    Transform,
    WeightUse,
)

WHOLE = GraphForm()
"""What every runtime of ONNX reads."""

EMBEDDING = "model.embed_tokens.weight"
PATCHES = "visual.patch_embed.proj.weight"
HEAD = "lm_head.weight"


def graphs_from_config(config: Any, image_size: int, form: GraphForm = WHOLE) -> ExportedGraphs:
    """Return the graphs of a Qwen2.5-VL model in one form, for square photos of `image_size` pixels.

    `config` is a Qwen2_5_VLConfig, a dict, or the path of a config.json or of its folder. Raises CheckpointError when
    the config is not of this family or the photo size does not fit its patches, ConfigError when the form does not
    fit the model.
    """
    checked = config_from(config)
    _check_image_size(checked.vision_config, image_size)
    _check_form(checked.text_config, form)
    model = fake_model(checked, form)
    text = checked.text_config
    embedding = WeightUse(EMBEDDING, EMBEDDING, Transform.AS_IS, (text.vocab_size, text.hidden_size))
    vision = _spec(vision_graph(model, image_size), checked)
    decoder = tuple(_spec(graph, checked) for graph in decoder_graphs(model))
    return ExportedGraphs(vision, decoder, embedding, form)


def _spec(joined: JoinedGraph, config: Any) -> GraphSpec:
    """Describe every initializer without data."""
    empty = [value for value in joined.model.graph.initializers.values() if value.const_value is None]
    weights = {str(value.name): _weight_use(value, config, joined.rows) for value in empty}
    matrices = [value for value in empty if value.shape is not None and len(value.shape) == 2]
    linears = tuple(_linear_use(value, weights) for value in matrices if value.name != PROBE_WEIGHT)
    return GraphSpec(joined.name, joined.model, weights, linears)


def _weight_use(value: ir.Value, config: Any, rows: Rows | None) -> WeightUse:
    name, shape = str(value.name), value.shape.numpy() if value.shape is not None else ()
    tensor = EMBEDDING if name == HEAD and config.tie_word_embeddings else name
    transform = Transform.TRANSPOSE if len(shape) == 2 else Transform.AS_IS
    transform = Transform.PATCH if name == PATCHES else transform
    dtype: FloatType = "float16" if value.dtype is ir.DataType.FLOAT16 else "float32"
    return WeightUse(name, tensor, transform, shape, rows if name == HEAD else None, dtype)


def _linear_use(weight: ir.Value, weights: Mapping[str, WeightUse]) -> LinearUse:
    """Describe the one MatMul of a matrix and name it after its module; anything else is a bug of the trace."""
    use = weights[str(weight.name)]
    uses = list(weight.uses())
    if len(uses) != 1 or uses[0].node.op_type != "MatMul" or uses[0].idx != 1:
        raise RuntimeError(f"{use.name} is used by {[u.node.op_type for u in uses]}, wanted one MatMul on the right")
    node = uses[0].node
    node.name = use.name.removesuffix(".weight")
    bias = f"{node.name}.bias"
    rows, columns = use.shape
    return LinearUse(node.name, use.name, bias if bias in weights else None, use.tensor, rows, columns, use.rows)


def _check_image_size(vision: Any, image_size: int) -> None:
    block = vision.patch_size * vision.spatial_merge_size
    if image_size <= 0 or image_size % block:
        raise CheckpointError(f"image size {image_size}", f"a multiple of {block} pixels", "correct the prompt profile")


def _check_form(text: Any, form: GraphForm) -> None:
    if form.layers_per_segment < 0:
        raise ConfigError(f"layers_per_segment {form.layers_per_segment}", "0 or more", "correct the recipe")
    if not 1 <= form.head_parts <= text.vocab_size:
        raise ConfigError(f"head_parts {form.head_parts}", f"1 to {text.vocab_size}", "correct the recipe")
