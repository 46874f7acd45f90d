"""Each process of a station loads what it needs and no more."""

from __future__ import annotations

import subprocess
import sys

import pytest

OF_THE_INSPECTOR = ("onnxruntime", "cv2", "tokenizers", "tensorrt", "torch", "transformers")
ROLES = {
    "hub": ("judo_edge.station.processes.hub",),
    "opcua": ("judo_edge.station.processes.opcua", "judo_edge.station.opcua.server"),
    "web": ("judo_edge.station.processes.web", "judo_edge.station.web.app", "judo_edge.station.web.settings"),
    "mqtt": ("judo_edge.station.processes.mqtt",),
    "camera": ("judo_edge.station.processes.camera",),
    "supervisor": ("judo_edge.station.supervisor.running",),
}
"""The modules of each process, also those that it imports when it is run."""


@pytest.mark.parametrize("role", ROLES)
def test_only_the_inspector_loads_an_engine(role: str) -> None:
    if role in ("opcua", "web"):
        pytest.importorskip({"opcua": "asyncua", "web": "fastapi"}[role], reason=f"needs the extra {role}")
    code = f"import sys, {', '.join(ROLES[role])}; print(*sorted(set({OF_THE_INSPECTOR!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_name_of_the_runtime_is_found() -> None:
    import judo_edge.runtime

    for name in judo_edge.runtime.__all__:
        assert callable(getattr(judo_edge.runtime, name)), name
    assert set(judo_edge.runtime.__all__) <= set(dir(judo_edge.runtime))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = judo_edge.runtime.Nothing
