"""Every form in which a model is written down, and tiny models traced in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from judo_edge.export.graphs import GraphForm
from tests.traced import Traced, traced

SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {"layers": 3, "vision_depth": 2, "rope_theta": 1e4},
    "one-kv-head-tied": {"layers": 3, "vision_depth": 2, "kv_heads": 1, "tied": True, "mrope_section": (2, 1, 1)},
}
FORMS = {
    "legacy": GraphForm(),
    "modern": GraphForm("modern"),
    "legacy-cut": GraphForm(layers_per_segment=2, head_parts=2),
    "modern-cut": GraphForm("modern", layers_per_segment=2, head_parts=3),
    "legacy-head-cut": GraphForm(head_parts=2),
    "legacy-half": GraphForm(dtype="float16"),
    "modern-half": GraphForm("modern", "float16"),
    "modern-half-cut": GraphForm("modern", "float16", 1, 2),
}


class Models:
    """Traces each shape and form once, when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[tuple[str, str], Traced] = {}

    def __call__(self, shape: str, form: str) -> Traced:
        if (shape, form) not in self.made:
            folder = self.folder / f"{shape}-{form}"
            folder.mkdir()
            self.made[shape, form] = traced(folder, 224, form=FORMS[form], **SHAPES[shape])
        return self.made[shape, form]
