"""Calibration folders with made-up numbers, in the real file format, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from judo_edge.bundle import AdapterSource, Source
from judo_edge.calibration import Calibration, CalibrationFile, LinearEntry, Provenance, open_calibration
from judo_edge.calibration.file import TENSORS_NAME, Settings, array_name
from judo_edge.calibration.writer import seal_folder
from judo_edge.export.graphs import LinearUse
from judo_edge.export.lora import MergedWeights

ERRORS = {"int8-channel": 0.01, "int8-static": 0.015, "int4-block": 0.08}


def made_up_calibration(
    folder: Path,
    weights: MergedWeights,
    linears: Sequence[LinearUse],
    errors: Mapping[str, Mapping[str, float]] | None = None,
    gram: bool = False,
    prefix_shape: tuple[int, ...] = (),
) -> Calibration:
    """Write and open a calibration of some layers; q, k, v and gate, up share their arrays as real ones do.

    `errors` gives the errors of single weights in the place of `ERRORS`; `prefix_shape` is that of the keys and values
    of the prompt's head.
    """
    folder.mkdir()
    arrays: dict[str, Any] = {}
    entries = []
    for linear in linears:
        group = linear.weight.replace("k_proj", "q_proj").replace("v_proj", "q_proj").replace("up_proj", "gate_proj")
        if array_name(group, "smooth") not in arrays:
            arrays |= _arrays(group, linear.in_features, gram, seed=len(arrays))
        entries.append(_entry(linear, group, {**ERRORS, **(errors or {}).get(linear.weight, {})}))
    if prefix_shape:
        arrays["prefix"] = np.random.default_rng(5).standard_normal(prefix_shape).astype(np.float32)
    save_file(arrays, folder / TENSORS_NAME)
    file = CalibrationFile(
        files={},
        provenance=_provenance(weights, gram),
        prefix_ids=tuple(range(1, prefix_shape[0] + 1)) if prefix_shape else (),
        linears=tuple(entries),
        layers=(),
    )
    seal_folder(folder, file, [TENSORS_NAME])
    return open_calibration(folder)


def _arrays(group: str, width: int, gram: bool, seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    made = {kind: np.exp(generator.normal(0, 0.5, width)).astype(np.float32) for kind in ("smooth", "awq")}
    made |= {kind: np.full(width, 3, np.float32) for kind in ("absmax_visual", "absmax_text")}
    if gram:
        mixing = np.eye(width) + generator.standard_normal((width, width)) / 9
        x = generator.standard_normal((4 * width, width)) @ mixing
        made["gram"] = (x.T @ x / len(x)).astype(np.float32)
    return {array_name(group, kind): values for kind, values in made.items()}  # type: ignore[arg-type]


def _entry(linear: LinearUse, group: str, errors: Mapping[str, float]) -> LinearEntry:
    return LinearEntry(
        weight=linear.weight,
        group=group,
        in_features=linear.in_features,
        out_features=linear.rows.total if linear.rows else linear.out_features,
        input_scale=0.05,
        alpha=0.5,
        awq_power=0.5,
        errors=errors,  # type: ignore[arg-type]
        errors_visual={},
        errors_text={},
        amax={},
        unseen_range=1.0,
    )


def _provenance(weights: MergedWeights, gram: bool) -> Provenance:
    adapters = tuple(AdapterSource(name=a.name, digest=a.digest, tensors=len(a.changed)) for a in weights.adapters)
    source = Source(checkpoint=weights.checkpoint.folder.name, digest=weights.checkpoint.digest(), adapters=adapters)
    return Provenance(
        source=source,
        profile="tiny",
        profile_sha256="0" * 64,
        split="made up",
        samples=(),
        left_out={},
        checked_against=0,
        tokens={},
        photos=1,
        settings=Settings(gram=gram),
        tools={},
    )
