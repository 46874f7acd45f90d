"""The native engine's code against the bindings of each TensorRT that a device may have: every name is there."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from judo_edge.runtime.engines import programs, tensorrt
from tests.tools.bindings import VERSIONS, environment_of
from tests.tools.look import folder_of, names_in

CLASSES = {
    "library": "", "severity": "ILogger.Severity.", "runtime": "Runtime.", "engine": "ICudaEngine.",
    "_engine": "ICudaEngine.", "context": "IExecutionContext.",
}  # fmt: skip
"""The variables of the code that hold something of TensorRT, and what."""


def names_used() -> set[str]:
    """Return the names of TensorRT that the code uses, read from its syntax trees."""
    trees = [ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")) for module in (programs, tensorrt)]
    return {name for tree in trees for node in ast.walk(tree) for name in _name(node)}


def _name(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.Attribute):
        return
    owner = node.value
    variable = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    if variable in CLASSES:
        yield CLASSES[variable] + node.attr
    if isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id == "library":
        yield f"{owner.attr}.{node.attr}"


def missing(module: str, names: set[str], environment: dict[str, str]) -> list[str]:
    return [name for name, there in names_in(module, names, environment)[1].items() if not there]


def test_the_list_is_read_from_the_code() -> None:
    assert names_used() == {
        "ExecutionContextAllocationStrategy", "ExecutionContextAllocationStrategy.USER_MANAGED",
        "ICudaEngine.create_execution_context", "ICudaEngine.device_memory_size_v2",
        "IExecutionContext.execute_async_v3", "IExecutionContext.set_device_memory",
        "IExecutionContext.set_input_shape", "IExecutionContext.set_optimization_profile_async",
        "IExecutionContext.set_tensor_address",
        "ILogger", "ILogger.Severity", "ILogger.__init__", "ILogger.Severity.ERROR", "ILogger.Severity.INTERNAL_ERROR",
        "Runtime", "Runtime.deserialize_cuda_engine",
    }  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_is_in_every_version(version: str) -> None:
    environment = environment_of(folder_of(version))
    assert missing("tensorrt_bindings", names_used(), environment) == []
    assert missing("tensorrt_bindings", {"IExecutionContext.no_such"}, environment) != []


def test_every_name_is_in_tensorrt_for_rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra rtx)")
    assert missing("tensorrt_rtx", names_used(), dict(os.environ)) == []


def test_logger_of_the_real_library_keeps_errors_alone() -> None:
    library = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra rtx)")
    log = tensorrt._log(library)
    log.log(library.ILogger.Severity.WARNING, "slow")
    assert log.last == "no reason given"
    log.log(library.ILogger.Severity.ERROR, "out\nof memory")
    assert log.last == "out of memory"
