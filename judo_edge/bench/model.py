"""Predicts how long a part takes on a device that is not here. What it says is predicted, not measured.

Every pass takes the longer of moving its bytes and doing its operations (the roofline):

    seconds = max(bytes / (bandwidth x bandwidth_share), operations / (arithmetic x arithmetic_share))

Decoder pass that appends n positions to k kept ones and wants logits on w rows; W weights of the layers' linears,
H of the LM head, L layers, A heads x head width, V bytes of one position's keys and values:

    bytes      = stored weights of layers and head + V (k + n)
    operations = 2 W n + 2 H w + 4 L A (n k + n (n + 1) / 2)

Vision of a photo of p patches and t merged tokens; B weights of its blocks, M of its merger, D blocks of width h of
which one in eight sees the whole photo and the others u patches:

    bytes      = stored weights
    operations = 2 B p + 2 M t + 4 h p (p D / 8 + u 7 D / 8)

Two for a product is a multiplication and an addition. Not counted: launches, activations, norms, the host, the copy of
photos, verdict and patches; so small models on large devices come out much too fast.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from judo_edge.bench.devices import DecoderShape, Device, DeviceTable, Published, TowerShape
from judo_edge.bundle import Bundle
from judo_edge.bundle.manifest import Manifest

_FULL_BLOCKS = 1 / 8
"""Share of Qwen2.5-VL's vision blocks that see the whole photo: 7, 15, 23 and 31 of 32."""
_FORM_BYTES = {"float32": 4.0, "float16": 2.0, "int8-channel": 1.0, "int8-static": 1.0}


class Cost(NamedTuple):
    """What a pass asks of a device."""

    num_bytes: float
    operations: float
    is_int8: bool = False
    """Whether the operations are products of int8 by int8."""


@dataclass(frozen=True)
class DecoderFacts:
    """A decoder as the formula sees it."""

    stored_bytes: float
    layer_weights: float
    head_weights: float
    num_layers: int
    attention_width: int
    kv_bytes: float
    """Of one position."""
    is_int8: bool = False

    def cost(self, new: float, wanted: float, kept: float) -> Cost:
        """Return the cost of a pass."""
        seen = new * kept + new * (new + 1) / 2
        products = 2 * self.layer_weights * new + 2 * self.head_weights * wanted
        attention = 4 * self.num_layers * self.attention_width * seen
        return Cost(self.stored_bytes + self.kv_bytes * (kept + new), products + attention, self.is_int8)


@dataclass(frozen=True)
class TowerFacts:
    """A vision tower as the formula sees it."""

    stored_bytes: float
    block_weights: float
    merger_weights: float
    depth: int
    hidden: int
    window_patches: int

    def cost(self, tokens: float) -> Cost:
        """Return the cost of one photo of so many merged tokens, four patches each."""
        patches = 4 * tokens
        seen = self.depth * (patches * _FULL_BLOCKS + self.window_patches * (1 - _FULL_BLOCKS))
        products = 2 * self.block_weights * patches + 2 * self.merger_weights * tokens
        return Cost(self.stored_bytes, products + 4 * self.hidden * patches * seen)


def seconds_on(device: Device, cost: Cost) -> float:
    """Return how long a pass takes."""
    return max(_moving(device, cost), _computing(device, cost))


def bound_on(device: Device, cost: Cost) -> str:
    """Return what a pass waits for: `bandwidth` or `arithmetic`."""
    return "bandwidth" if _moving(device, cost) >= _computing(device, cost) else "arithmetic"


def decoder_from_bundle(bundle: Bundle) -> DecoderFacts:
    """Return what a bundle's decoder is: weights from the model's shape, bytes from the files of its graphs."""
    model, manifest = bundle.manifest.model, bundle.manifest
    width, kv_width = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    layer = _layer_weights(model.hidden_size, width, kv_width, model.intermediate_size)
    kv_bytes = model.kv_bytes_per_token * _FORM_BYTES[manifest.dtype] / 4
    return DecoderFacts(
        stored_bytes=sum(_data_bytes(manifest, name) for name in manifest.decoder),
        layer_weights=layer * model.num_layers,
        head_weights=model.hidden_size * model.vocab_size,
        num_layers=model.num_layers,
        attention_width=width,
        kv_bytes=kv_bytes,
        is_int8=_usual_form(manifest, "model.layers.") == "int8-static",
    )


def tower_from_bundle(bundle: Bundle) -> TowerFacts:
    """Return what a bundle's vision tower is; its weights are counted from its bytes and the form most of it has."""
    model, manifest = bundle.manifest.model, bundle.manifest
    stored = sum(_data_bytes(manifest, name) for name in manifest.graphs if name not in manifest.decoder)
    each = form_bytes(_usual_form(manifest, "visual."), _FORM_BYTES[manifest.dtype])
    merged = model.vision_hidden_size * model.spatial_merge_size**2
    merger = merged * merged + merged * model.hidden_size
    return TowerFacts(
        stored_bytes=stored,
        block_weights=stored / each - merger,
        merger_weights=merger,
        depth=model.vision_depth,
        hidden=model.vision_hidden_size,
        window_patches=(model.vision_window_size // model.patch_size) ** 2,
    )


def form_bytes(form: str, scale_bytes: float) -> float:
    """Return the bytes of a parameter stored in a form, with its share of a scale: `int4-block128` has one for 128."""
    kind, _, block = form.partition("-block")
    if not block:
        return _FORM_BYTES[form]
    return (0.5 if kind == "int4" else 1.0) + scale_bytes / int(block)


def published_seconds(table: DeviceTable, figure: Published) -> float:
    """Return what the formula says where somebody published a figure."""
    shape, device = table.shape(figure.model), table.named(figure.device)
    weight_bytes = form_bytes(figure.weights, _FORM_BYTES["float16"])
    if isinstance(shape, TowerShape):
        return seconds_on(device, _tower(shape, weight_bytes).cost(figure.rows))
    return seconds_on(device, _decoder(shape, weight_bytes).cost(figure.rows, 1, 0))


def _decoder(shape: DecoderShape, weight_bytes: float) -> DecoderFacts:
    width, kv_width = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layers = shape.layers * _layer_weights(shape.hidden, width, kv_width, shape.intermediate)
    head = shape.hidden * shape.vocabulary
    stored = layers * weight_bytes + head * _FORM_BYTES["float16"]
    return DecoderFacts(stored, layers, head, shape.layers, width, 2 * shape.layers * kv_width * _FORM_BYTES["float16"])


def _tower(shape: TowerShape, weight_bytes: float) -> TowerFacts:
    blocks = shape.depth * (4 * shape.hidden**2 + 3 * shape.hidden * shape.intermediate)
    merger = 4 * shape.hidden * (4 * shape.hidden + shape.merged)
    stored = (blocks + merger) * weight_bytes
    return TowerFacts(stored, blocks, merger, shape.depth, shape.hidden, shape.window_patches)


def _layer_weights(hidden: int, width: int, kv_width: int, intermediate: int) -> int:
    """Count q and o, k and v, gate, up and down of one layer."""
    return 2 * hidden * width + 2 * hidden * kv_width + 3 * hidden * intermediate


def _moving(device: Device, cost: Cost) -> float:
    return cost.num_bytes / (device.bandwidth_gb_s * 1e9 * device.bandwidth_share)


def _computing(device: Device, cost: Cost) -> float:
    tops = device.int8_tops if cost.is_int8 and device.int8_tops else device.float16_tflops
    return cost.operations / (tops * 1e12 * device.arithmetic_share)


def _data_bytes(manifest: Manifest, graph: str) -> int:
    return manifest.files[manifest.graphs[graph].data].bytes


def _usual_form(manifest: Manifest, prefix: str) -> str:
    """Return the form that most matrices under a prefix have."""
    forms = Counter(
        decision.form
        for name, decision in manifest.decisions.items()
        if name.startswith(prefix) and name.endswith("proj.weight")
    )
    return forms.most_common(1)[0][0] if forms else manifest.dtype
