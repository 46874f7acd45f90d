"""The export, where users of Hugging Face Optimum look for it: a configuration registered with its TasksManager.

Knows optimum's core (2.3). Its ONNX exporter, `optimum-onnx` 0.1.0, is not used: it traces whole models in memory and
is pinned to transformers below 4.58. Nothing is registered before `register_with_optimum` is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimum.exporters.base import ExporterConfig
from optimum.exporters.tasks import TasksManager
from optimum.utils import NormalizedConfig

from judo_edge.export.graphs import GraphSpec, graphs_from_config
from judo_edge.export.pipeline import export_bundle

MODEL_TYPE, TASK = "qwen2_5_vl", "image-text-to-text"

Axes = dict[str, dict[int, str]]


class JudoOnnxConfig(ExporterConfig):  # type: ignore[misc]  # optimum has no types
    """Names and dynamic axes of a Qwen2.5-VL's two graphs, and the export that makes them.

    The model is two graphs, so inputs are those of the vision graph and then those of the decoder, as they are stored.
    """

    NORMALIZED_CONFIG_CLASS = NormalizedConfig

    def __init__(self, config: Any, task: str = TASK, image_size: int = 504, **kwargs: Any) -> None:
        """Trace the graphs without weights; `image_size` is the side of the square photo, pixels."""
        super().__init__(config, task, **kwargs)
        graphs = graphs_from_config(config, image_size)
        self._graphs: tuple[GraphSpec, ...] = (graphs.vision, *graphs.decoder)

    @property
    def inputs(self) -> Axes:
        """Return the dynamic axes of every input by name."""
        return _axes([spec for graph in self._graphs for spec in graph.inputs])

    @property
    def outputs(self) -> Axes:
        """Return the dynamic axes of every output by name."""
        return _axes([spec for graph in self._graphs for spec in graph.outputs])

    def export(
        self, checkpoint: str | Path, out: str | Path, adapters: Sequence[str | Path] = (), **kwargs: Any
    ) -> Path:
        """Write the bundle of a checkpoint folder; see `pipeline.export_bundle` for arguments and errors."""
        return export_bundle(checkpoint, adapters, out=out, **kwargs)


def register_with_optimum(overwrite_existing: bool = True) -> type[JudoOnnxConfig]:
    """Make `TasksManager` return `JudoOnnxConfig` for (onnx, qwen2_5_vl, image-text-to-text)."""
    register = TasksManager.create_register("onnx", overwrite_existing=overwrite_existing)
    register(MODEL_TYPE, TASK)(JudoOnnxConfig)
    return JudoOnnxConfig


def _axes(specs: Sequence[Any]) -> Axes:
    return {spec.name: {axis: size for axis, size in enumerate(spec.shape) if isinstance(size, str)} for spec in specs}
