"""Traced models that several files of this folder share; tracing takes seconds, so each is made once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dialects import SHAPES, Models
from tests.traced import Traced, traced

CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "224px": (224, {}),
    "504px-tied": (504, {"tied": True, "kv_heads": 4}),  # 18 x 18 tokens: 25 ragged windows
    "140px-one-kv-head": (
        140,  # 5 x 5 tokens in windows of 2, no full attention
        {
            "window_size": 56,
            "full_attention_blocks": (),
            "vision_heads": 4,
            "vision_depth": 2,
            "kv_heads": 1,
            "layers": 3,
            "rope_theta": 1e6,
            "mrope_section": (2, 1, 1),
        },
    ),
}


@pytest.fixture(scope="session", params=list(CASES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    size, changes = CASES[request.param]
    return traced(tmp_path_factory.mktemp("traced"), size, **changes)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("dialects"))


@pytest.fixture(params=list(SHAPES))
def shape(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
