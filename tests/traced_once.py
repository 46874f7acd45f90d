"""Exports that trace each config once: a trace takes seconds, and the same tiny model is exported many times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from judo_edge.export import plan
from judo_edge.export.graphs import ExportedGraphs, GraphForm, graphs_from_config


@contextmanager
def graphs_traced_once() -> Iterator[None]:
    """Let every export inside the block start from a copy of the first trace of its config and form."""
    traces: dict[str, ExportedGraphs] = {}

    def graphs(config: dict[str, Any], image_size: int, *form: GraphForm) -> ExportedGraphs:
        key = json.dumps([config, image_size, str(form)], sort_keys=True)
        if key not in traces:
            traces[key] = graphs_from_config(config, image_size, *form)
        vision, *decoder = (replace(g, model=g.model.clone()) for g in traces[key].all)
        return replace(traces[key], vision=vision, decoder=tuple(decoder))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "graphs_from_config", graphs)
        yield
