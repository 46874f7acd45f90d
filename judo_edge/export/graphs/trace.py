"""From a torch module with fake parameters to a piece of a graph without numbers.

Knows the exporter of torch. Knows nothing of models, stored forms and files. Needs torch and onnxscript.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from judo_edge.export.graphs import clean
from judo_edge.export.graphs.spec import TensorSpec

_SIZES = {"N": 2, "B": 2, "S": 3, "P": 5, "R": 4, "P + S": 8, "C": 11, "G*S": 6}
"""Example of each named size, above one so that the exporter keeps it open."""
_TYPES = {"FLOAT": torch.float32, "FLOAT16": torch.float16, "INT64": torch.int64}
_NOISY = ("torch.onnx._internal.exporter._registration", "onnx_ir.passes.common.initializer_deduplication")


def traced_piece(
    module: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[str], opset: int, mode: FakeTensorMode
) -> ir.Model:
    """Return `module` as a graph whose parameters are initializers without data, named as in the module.

    `inputs` are the arguments of its forward, in order; their named sizes stay open.
    """
    with mode:
        args = tuple(_example(spec) for spec in inputs)
    with _quiet():
        program: Any = torch.onnx.export(
            module.eval(),
            args,
            dynamo=True,
            opset_version=opset,
            input_names=[spec.name for spec in inputs],
            output_names=list(outputs),
            dynamic_shapes=_dynamic(module, inputs),
            optimize=False,
            verbose=False,
        )
        piece: ir.Model = program.model
        clean.emptied(piece, [name for name, _ in module.named_parameters()])
        clean.folded(piece)
    clean.with_divided_norms(piece)
    clean.with_named_sizes(piece, {spec.name: spec.shape for spec in inputs})
    clean.with_constant_shapes(piece)
    return piece


def _example(spec: TensorSpec) -> Tensor:
    sizes = [_SIZES[size] if isinstance(size, str) else size for size in spec.shape]
    return torch.zeros(sizes, dtype=_TYPES[spec.dtype])


def _dynamic(module: nn.Module, inputs: Sequence[TensorSpec]) -> tuple[Any, ...]:
    axes = [
        {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in inputs
    ]
    return tuple(axes)


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
