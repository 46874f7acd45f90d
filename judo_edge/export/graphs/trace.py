"""From a model's config to its two ONNX graphs, without its weights.

Traces the real transformers modules with fake parameters (seconds; well under 1 GB for 7B) and lists where every
initializer comes from. Knows nothing of stored forms and files. Needs torch, transformers, onnxscript.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from judo_edge.errors import CheckpointError, ConfigError
from judo_edge.export.graphs import clean
from judo_edge.export.graphs.decoder import DecoderGraph
from judo_edge.export.graphs.fake import FakeModel, config_from, fake_model
from judo_edge.export.graphs.spec import ExportedGraphs, GraphForm, GraphSpec, LinearUse, Transform, WeightUse
from judo_edge.export.graphs.vision import VisionGraph

OPSET = 20
"""Newest operator set whose every operator here runs on ONNX Runtime 1.23 and parses in TensorRT 10."""

WHOLE = GraphForm()
"""What every runtime of ONNX reads."""

EMBEDDING = "model.embed_tokens.weight"
PATCHES = "visual.patch_embed.proj.weight"
HEAD = "lm_head.weight"

_NOISY = ("torch.onnx._internal.exporter._registration", "onnx_ir.passes.common.initializer_deduplication")

Sizes = Sequence[int | str]


def graphs_from_config(config: Any, image_size: int, form: GraphForm = WHOLE) -> ExportedGraphs:
    """Return the vision and decoder graphs of a Qwen2.5-VL model, for square photos of `image_size` pixels.

    `config` is a Qwen2_5_VLConfig, a dict, or the path of a config.json or of its folder. Raises CheckpointError when
    the config is not of this family or the photo size does not fit its patches.
    """
    if form != WHOLE:
        raise ConfigError(f"{form}", f"{WHOLE}", "choose a recipe of that form")
    checked = config_from(config)
    _check_image_size(checked.vision_config, image_size)
    model = fake_model(checked)
    text = checked.text_config
    embedding = WeightUse(EMBEDDING, EMBEDDING, Transform.AS_IS, (text.vocab_size, text.hidden_size))
    return ExportedGraphs(_vision(model, image_size), (_decoder(model),), embedding)


def _vision(model: FakeModel, image_size: int) -> GraphSpec:
    vision = model.config.vision_config
    side = image_size // vision.patch_size
    graph = VisionGraph(model.visual, model.vision_rotary, side)
    length = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    inputs: dict[str, Sizes] = {"pixel_values": ("N", side * side, length)}
    traced = _traced(graph, inputs, ["embeddings"], {"N": 2}, model)
    return _spec("vision", traced, model.config)


def _decoder(model: FakeModel) -> GraphSpec:
    text = model.config.text_config
    heads, width = text.num_key_value_heads, text.hidden_size // text.num_attention_heads
    inputs: dict[str, Sizes] = {
        "inputs_embeds": ("B", "S", text.hidden_size),
        "positions": (3, "B", "S"),
        "mask": ("B", 1, "S", "P + S"),
        "past": ("P", text.num_hidden_layers, 2, "B", heads, width),
        "rows": ("R",),
    }
    graph = DecoderGraph(model.text, model.lm_head)
    sizes = {"B": 2, "S": 3, "P": 5, "P + S": 8, "R": 4}
    return _spec("decoder", _traced(graph, inputs, ["logits", "present"], sizes, model), model.config)


def _traced(
    graph: nn.Module, inputs: Mapping[str, Sizes], outputs: list[str], sizes: Mapping[str, int], model: FakeModel
) -> ir.Model:
    """Trace `graph`; `sizes` gives each named size an example value, all different and above one."""
    with model.mode:
        args = tuple(_example(name, shape, sizes) for name, shape in inputs.items())
    dynamic = tuple(
        {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(shape) if isinstance(size, str)}
        for shape in inputs.values()
    )
    with _quiet():
        program: Any = torch.onnx.export(
            graph.eval(),
            args,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=dynamic,
            optimize=False,
            verbose=False,
        )
        traced: ir.Model = program.model
        clean.emptied(traced, [name for name, _ in graph.named_parameters()])
        clean.folded(traced)
    clean.with_divided_norms(traced)
    clean.with_named_sizes(traced, inputs)
    return traced


def _example(name: str, shape: Sizes, sizes: Mapping[str, int]) -> Tensor:
    integers = name in ("positions", "rows")
    numbers = [sizes[size] if isinstance(size, str) else size for size in shape]
    return torch.zeros(numbers, dtype=torch.int64 if integers else torch.float32)


def _spec(name: str, model: ir.Model, config: Any) -> GraphSpec:
    initializers = model.graph.initializers
    empty = [value for value in initializers.values() if value.const_value is None]
    weights = {str(value.name): _weight_use(value, config) for value in empty}
    linears = tuple(_linear_use(value, weights) for value in empty if value.shape is not None and len(value.shape) == 2)
    return GraphSpec(name, model, weights, linears)


def _weight_use(value: ir.Value, config: Any) -> WeightUse:
    name, shape = str(value.name), value.shape.numpy() if value.shape is not None else ()
    tensor = EMBEDDING if name == HEAD and config.tie_word_embeddings else name
    if name == PATCHES:
        return WeightUse(name, tensor, Transform.PATCH, shape)
    return WeightUse(name, tensor, Transform.TRANSPOSE if len(shape) == 2 else Transform.AS_IS, shape)


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporter's own notes; its errors still come through."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [(logger, logger.level) for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)
