"""The pieces of the graphs, each traced once, and the names and shapes at their borders.

Knows which module becomes which piece. `joined` decides how they follow each other.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from judo_edge.export.graphs.decoder import (
    CellProbe,
    Head,
    LastLegacyLayer,
    LegacyLayer,
    LegacyTables,
    ModernLayer,
    ModernTables,
)
from judo_edge.export.graphs.fake import FakeModel
from judo_edge.export.graphs.modules import GroupedWindowAttention, MatrixLinear
from judo_edge.export.graphs.spec import TensorSpec
from judo_edge.export.graphs.trace import traced_piece
from judo_edge.export.graphs.vision import VisionBlock, VisionFront, VisionMerger, rotary_tables, window_plan

_OPSETS = {"legacy": 20, "modern": 24}
"""20 is the newest operator set whose every operator here runs on ONNX Runtime 1.23 and parses in TensorRT 10.3."""
_FLOATS = {"float32": "FLOAT", "float16": "FLOAT16"}


class _Pieces:
    def __init__(self, model: FakeModel) -> None:
        self.model, self.form = model, model.form
        self.opset, self.float = _OPSETS[model.form.dialect], _FLOATS[model.form.dtype]

    def traced(self, module: nn.Module, inputs: list[TensorSpec], *outputs: str) -> ir.Model:
        return traced_piece(module, inputs, outputs, self.opset, self.model.mode)


class VisionPieces(_Pieces):
    """Front, one block for each kind of attention, merger."""

    def __init__(self, model: FakeModel, image_size: int) -> None:
        """Plan the windows of square photos of `image_size` pixels."""
        super().__init__(model)
        self.config = model.config.vision_config
        side = image_size // self.config.patch_size
        self.plan, self.unit = window_plan(self.config, side), int(self.config.spatial_merge_size) ** 2
        self.rotary = rotary_tables(model.visual, model.vision_rotary, self.plan, side)
        self.attention: Any = model.visual.blocks[0].attn
        length = self.config.in_channels * self.config.temporal_patch_size * self.config.patch_size**2
        self.pixels = TensorSpec("pixel_values", self.float, ("N", side * side, length))
        self.stream = TensorSpec("hidden", "FLOAT", ("N", side * side, self.config.hidden_size))
        self._blocks: dict[tuple[tuple[int, int], ...], ir.Model] = {}

    @cached_property
    def front(self) -> ir.Model:
        """Trace patches to the residual stream."""
        return self.traced(VisionFront(self.model.visual.patch_embed, self.plan, self.unit), [self.pixels], "output")

    @cached_property
    def merger(self) -> ir.Model:
        """Trace the residual stream to visual tokens and patch features."""
        merger = VisionMerger(self.model.visual.merger, self.plan, self.unit)
        return self.traced(merger, [self.stream], "tokens", "features")

    def block(self, number: int) -> ir.Model:
        """Trace the kind of block that stands at this place of the tower."""
        full = number in self.config.fullatt_block_indexes
        groups = ((1, int(self.pixels.shape[1])),) if full else self.plan.groups
        if groups not in self._blocks:
            block: Any = self.model.visual.blocks[0]
            block.attn = GroupedWindowAttention(self.attention, groups)
            self._blocks[groups] = self.traced(VisionBlock(block, self.rotary), [self.stream], "output")
        return self._blocks[groups]


class DecoderPieces(_Pieces):
    """Tables, one layer, the head, the cell probe."""

    def __init__(self, model: FakeModel) -> None:
        """Name the borders; tracing waits until a piece is asked for."""
        super().__init__(model)
        self.config = model.config.text_config
        self.heads = self.config.num_key_value_heads
        self.width = self.config.hidden_size // self.config.num_attention_heads
        self.stream = TensorSpec("inputs_embeds", self.float, ("B", "S", self.config.hidden_size))
        self.positions = TensorSpec("positions", "INT64", (3, "B", "S"))
        self.write = TensorSpec("write", "INT64", ("B",))
        self.rows = TensorSpec("rows", "INT64", ("R",))
        self.columns = "P + S" if self.form.dialect == "legacy" else "C"
        self.mask = TensorSpec("mask", self.float, ("B", 1, "S", self.columns))
        self.head = cache(self._head)

    @property
    def is_last_asked(self) -> bool:
        """Say whether the last layer may leave out rows: in the legacy dialect, where no probe reads all of them."""
        probe = self.form.probe
        return self.form.dialect == "legacy" and (probe is None or probe.tap < self.config.num_hidden_layers)

    def joined_cache(self, name: str, rows: str, layers: int) -> TensorSpec:
        """Describe keys and values of some layers in one tensor, position first."""
        return TensorSpec(name, self.float, (rows, layers, 2, "B", self.heads, self.width))

    @property
    def past_parts(self) -> list[TensorSpec]:
        """Describe one layer's keys and values in the joined cache."""
        shape = ("P", 1, 1, "B", self.heads, self.width)
        return [TensorSpec(name, self.float, shape) for name in ("past_key", "past_value")]

    def capacity(self, name: str) -> TensorSpec:
        """Describe the keys or the values of one layer over the whole capacity."""
        return TensorSpec(name, self.float, ("B", self.heads, "C", self.width))

    @cached_property
    def tables(self) -> ir.Model:
        """Trace what all layers read: rotary tables and the folded mask."""
        made = LegacyTables if self.form.dialect == "legacy" else ModernTables
        module = made(self.model.text.rotary_emb, self.config, self.model.dtype)
        return self.traced(module, [self.positions, self.mask], *(spec.name for spec in self.table_specs))

    @property
    def table_specs(self) -> list[TensorSpec]:
        """Describe the outputs of `tables`."""
        names, width = ["query_cos", "query_sin", "key_cos", "key_sin"], self.width // 2
        if self.form.dialect == "legacy":
            names, width = ["cos", "sin"], self.width
        tables = [TensorSpec(name, self.float, ("B", "S", width)) for name in names]
        return [*tables, TensorSpec("folded_mask", self.float, ("B", 1, "G*S", self.columns))]

    @cached_property
    def layer(self) -> ir.Model:
        """Trace one decoder layer."""
        stream, layer = TensorSpec("hidden", self.float, self.stream.shape), self.model.text.layers[0]
        if self.form.dialect == "legacy":
            inputs = [stream, *self.table_specs, *self.past_parts]
            return self.traced(LegacyLayer(layer), inputs, "output", "present")
        caches = [self.capacity("past_key"), self.capacity("past_value")]
        inputs = [stream, *caches, self.write, *self.table_specs]
        return self.traced(ModernLayer(layer), inputs, "output", "present_key", "present_value")

    @cached_property
    def last_layer(self) -> ir.Model:
        """Trace the last layer of a whole legacy decoder, whose stream is that of the asked rows."""
        stream, layer = TensorSpec("hidden", self.float, self.stream.shape), self.model.text.layers[0]
        inputs = [stream, *self.table_specs[:2], self.mask, self.rows, *self.past_parts]
        return self.traced(LastLegacyLayer(layer, self.config), inputs, "output", "present")

    def _head(self, size: int, is_asked: bool = False) -> ir.Model:
        """Trace the final norm and a head of `size` outputs; `is_asked` for a stream of nothing but asked rows."""
        stream = TensorSpec("hidden", self.float, ("B", "R" if is_asked else "S", self.stream.shape[2]))
        with self.model.mode:
            head: Any = self.model.lm_head
            part = MatrixLinear(head.weight[:, :size], None)
        inputs = [stream] if is_asked else [stream, self.rows]
        return self.traced(Head(self.model.text.norm, part), inputs, "logits")

    def probe(self, values: int) -> ir.Model:
        """Trace the cell probe of `values` outputs."""
        with self.model.mode:
            module = CellProbe(torch.empty(self.config.hidden_size, values), torch.empty(values))
        return self.traced(module, [TensorSpec("hidden", self.float, self.stream.shape)], "cells")
