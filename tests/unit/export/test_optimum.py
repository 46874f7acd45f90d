"""Optimum's own entry point finds our configuration, and exports by it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("optimum.exporters.tasks", reason="needs the extra optimum: pip install 'judo-edge[optimum]'")

from optimum.exporters.tasks import TasksManager

from judo_edge.bundle import open_bundle
from judo_edge.export.optimum import MODEL_TYPE, TASK, register_with_optimum
from judo_edge.export.pipeline import checkpoint_folder
from tests.tiny import tiny_config


def test_tasks_manager_finds_the_configuration_and_its_axes() -> None:
    register_with_optimum()
    make = TasksManager.get_exporter_config_constructor(
        "onnx", model_type=MODEL_TYPE, task=TASK, library_name="transformers"
    )
    config = make(tiny_config(), image_size=56)
    assert config.inputs["pixel_values"] == {0: "N"}
    assert config.inputs["mask"] == {0: "B", 2: "S", 3: "P + S"}
    assert set(config.outputs) == {"embeddings", "features", "logits", "present"}


def test_the_configuration_exports_a_bundle(tmp_path: Path) -> None:
    from transformers import AutoConfig

    folder = checkpoint_folder("judo-nano")
    config = register_with_optimum()(AutoConfig.from_pretrained(folder), image_size=224)
    bundle = open_bundle(config.export(folder, tmp_path / "bundle", recipe="cpu-fp32"))
    names = {name for graph in bundle.manifest.graphs.values() for name in graph.inputs}
    assert names == set(config.inputs)
