"""Which kernels a builder made of a graph: read from its own listing, and asked the two questions that cost speed.

The listing is the builder's detailed log (one line for each layer, which needs no GPU) or the engine inspector's JSON.
Knows their text, not TensorRT.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any, Protocol

from judo_edge.config import Frozen

_LIST = r"\[(?:[^{}\[\]]|\{[^{}]*\})*\]"
"""A list of tensors, each in braces with brackets inside."""
_LINE = re.compile(
    rf"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), Inputs: (?P<inputs>{_LIST}), "
    rf"(?:Constants: (?P<constants>{_LIST}), )?Outputs: (?P<outputs>{_LIST}), (?P<rest>.*)$"
)
_TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<shape>[^\]]*)\].*?(?:Datatype|Format/Datatype): (?P<dtype>\w+)"
)
_TACTIC = re.compile(r"TacticName: ([^,]*)")
_METADATA = re.compile(r"Metadata: (.*)$")
_SOURCE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_INTEGERS = frozenset({"Int8", "Int4", "INT8", "INT4"})
_FLOATS = frozenset({"Half", "Float", "BFloat16", "FP16", "FP32", "BF16"})
_FEWEST = 1024
"""Elements below which a constant is a scale or a table, not a weight."""


class KernelTensor(Frozen):
    """An input, constant or output of a kernel."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    """-1 for a dynamic size."""

    @property
    def elements(self) -> int:
        """Return the number of elements, 0 when a size is dynamic."""
        return prod(self.shape) if min(self.shape, default=1) >= 0 else 0


class Kernel(Frozen):
    """One layer of a built engine."""

    name: str
    kind: str
    inputs: tuple[KernelTensor, ...] = ()
    constants: tuple[KernelTensor, ...] = ()
    outputs: tuple[KernelTensor, ...] = ()
    tactic: str = ""
    sources: tuple[str, ...] = ()
    """Names of the ONNX nodes that it computes."""

    @property
    def integer_weights(self) -> tuple[KernelTensor, ...]:
        """Return the quantized weights that it reads."""
        return tuple(t for t in self.constants if t.dtype in _INTEGERS and t.elements >= _FEWEST)

    @property
    def expands_weight(self) -> bool:
        """Tell whether it writes a quantized weight out as floating point; a kernel without inputs may pad it too."""
        sizes = {weight.elements for weight in self.integer_weights}
        written = [out.elements for out in self.outputs if out.dtype in _FLOATS]
        padded = bool(sizes) and not self.inputs and max(written, default=0) >= min(sizes)
        return padded or any(size in sizes for size in written)


class HeadFacts(Frozen):
    """Attention heads of the graph's layers, all zero for a graph without a cache."""

    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    capacity: int = 0
    """Positions of the cache where it is fixed, else 0."""


class LayerReport(Frozen):
    """The kernels of one plan, all its profiles one after the other."""

    graph: str
    builder: str
    kernels: tuple[Kernel, ...]
    facts: HeadFacts = HeadFacts()

    def counts(self) -> dict[str, int]:
        """Return how often each kind of kernel occurs, most frequent first, without synchronisation."""
        kinds: dict[str, int] = {}
        for kernel in self.kernels:
            if kernel.kind not in ("signal", "wait", "shape_call"):
                kinds[kernel.kind] = kinds.get(kernel.kind, 0) + 1
        return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


class Linear(Protocol):
    """A linear layer as the graphs describe it."""

    @property
    def node(self) -> str:
        """Name of its MatMul node."""
        ...

    @property
    def in_features(self) -> int:
        """Width of its input."""
        ...

    @property
    def out_features(self) -> int:
        """Width of its output."""
        ...


def is_weight_fused(report: LayerReport, linear: Linear) -> bool:
    """Tell whether a quantized layer's product reads its integer weight, in every profile.

    False when a kernel writes that weight out as floating point, or when no kernel reads it as integers at all. Kernels
    are found by the node names in the listing, or by the weight's size where the builder names none.
    """
    size = linear.in_features * linear.out_features
    named = [kernel for kernel in report.kernels if linear.node in kernel.sources]
    kernels = named or [kernel for kernel in report.kernels if any(w.elements == size for w in kernel.integer_weights)]
    expanded = [k for k in report.kernels if k.expands_weight and any(w.elements == size for w in k.integer_weights)]
    reads = any(kernel.integer_weights for kernel in kernels)
    return reads and not any(kernel.expands_weight for kernel in kernels) and not expanded


def expanded_weights(report: LayerReport) -> tuple[str, ...]:
    """Name the kernels that write a quantized weight out as floating point."""
    return tuple(kernel.name for kernel in report.kernels if kernel.expands_weight)


def replicates_kv(report: LayerReport) -> bool:
    """Tell whether a kernel writes keys or values once for every query head over the whole cache.

    Only for graphs with a cache of fixed capacity; ValueError for another, where a shape cannot tell it.
    """
    facts = report.facts
    if not facts.capacity:
        raise ValueError(f"{report.graph} has no cache of fixed capacity")
    if facts.heads == facts.kv_heads:
        return False
    copy = facts.heads * facts.capacity * facts.head_dim
    return any(_is_copy(out, facts, copy) for kernel in report.kernels for out in kernel.outputs)


def _is_copy(tensor: KernelTensor, facts: HeadFacts, elements: int) -> bool:
    """Say whether a tensor has every head, the capacity and the head's width as sizes, and nothing dynamic."""
    return tensor.elements == elements and facts.capacity in tensor.shape and facts.head_dim in tensor.shape


def kernels_from_log(lines: Iterable[str]) -> Iterator[Kernel]:
    """Read the layers of a detailed builder log; other lines are passed over."""
    for line in lines:
        if found := _LINE.match(line):
            yield _kernel_from_match(found)


def kernels_from_inspector(text: str) -> tuple[Kernel, ...]:
    """Read the layers of an engine inspector's JSON; a builder without detail lists names only."""
    layers: list[Any] = json.loads(text).get("Layers", [])
    return tuple(
        _kernel_from_json(layer) if isinstance(layer, dict) else Kernel(name=layer, kind="") for layer in layers
    )


def _kernel_from_match(found: re.Match[str]) -> Kernel:
    rest = found["rest"]
    tactic, metadata = _TACTIC.search(rest), _METADATA.search(rest)
    return Kernel(
        name=found["name"],
        kind=found["kind"],
        inputs=_tensors(found["inputs"]),
        constants=_tensors(found["constants"] or ""),
        outputs=_tensors(found["outputs"]),
        tactic=tactic[1] if tactic else "",
        sources=_sources(metadata[1] if metadata else ""),
    )


def _tensors(text: str) -> tuple[KernelTensor, ...]:
    return tuple(
        KernelTensor(name=found["name"], dtype=found["dtype"], shape=_shape(found["shape"]))
        for found in _TENSOR.finditer(text)
    )


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.replace(" ", "").split(",") if size)


def _sources(metadata: str) -> tuple[str, ...]:
    return tuple(_SOURCE.findall(metadata))


def _kernel_from_json(layer: Mapping[str, Any]) -> Kernel:
    groups = (tuple(map(_tensor_from_json, layer.get(key, ()))) for key in ("Inputs", "Constants", "Outputs"))
    inputs, constants, outputs = groups
    return Kernel(
        name=str(layer.get("Name", "")),
        kind=str(layer.get("LayerType", "")),
        inputs=inputs,
        constants=constants,
        outputs=outputs,
        tactic=str(layer.get("TacticName", "")),
        sources=_sources(str(layer.get("Metadata", ""))),
    )


def _tensor_from_json(tensor: Mapping[str, Any]) -> KernelTensor:
    """Read one tensor; older builders join format and type in one word list, e.g. `Row major linear FP16 format`."""
    text = str(tensor.get("Datatype") or tensor.get("Format/Datatype") or "")
    words = [word for word in text.split() if word in _INTEGERS | _FLOATS]
    return KernelTensor(
        name=str(tensor.get("Name", "")), dtype=words[0] if words else text, shape=tuple(tensor.get("Dimensions", ()))
    )
