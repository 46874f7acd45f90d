"""What the manifest says of the graphs an engine runs: pieces of the decoder in order, dialect, numbers, widths.

Knows the names of the graphs' inputs and outputs. Opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from judo_edge.bundle import GraphEntry, Manifest
from judo_edge.errors import BundleError

VISION = "vision"
_RESULTS: tuple[str, ...] = ("hidden", "logits", "cells")


@dataclass(frozen=True)
class Piece:
    """One graph of the decoder: some layers, the head, a part of the head, or all of it."""

    name: str
    first_layer: int
    """Absolute number of its first layer."""
    num_layers: int
    """0 for a head."""
    takes: frozenset[str]
    """Names of its inputs."""
    widths: Mapping[str, int]
    """Last axis of those of its outputs `hidden`, `logits` and `cells` that it has."""

    @property
    def layers(self) -> range:
        """Return the absolute numbers of its layers."""
        return range(self.first_layer, self.first_layer + self.num_layers)


@dataclass(frozen=True)
class Layout:
    """The graphs of a bundle as an engine sees them."""

    dialect: str
    """`legacy`: one position-first past of each piece; `modern`: a cache of fixed capacity for each layer."""
    dtype: np.dtype[Any]
    """Type of all float inputs and outputs."""
    pieces: tuple[Piece, ...]
    """The decoder, in running order."""
    kv_heads: int
    head_dim: int
    vision_rows: tuple[int, int]
    """Tokens of one photo and hidden width."""
    vision_features: tuple[int, int] | None = None
    """Patches of one photo and feature width; None for a graph without features."""

    @property
    def graphs(self) -> tuple[str, ...]:
        """Return the names of all graphs, the vision graph first."""
        return (VISION, *(piece.name for piece in self.pieces))


def layout_from_manifest(manifest: Manifest) -> Layout:
    """Read the layout; BundleError when the graphs do not add up to the model's decoder."""
    model = manifest.model
    pieces = tuple(_pieces(manifest))
    if sum(piece.num_layers for piece in pieces) != model.num_layers:
        found = f"decoder graphs with {sum(piece.num_layers for piece in pieces)} layers"
        raise BundleError(found, f"{model.num_layers} layers", "export the bundle again")
    if sum(piece.widths.get("logits", 0) for piece in pieces) != model.vocab_size:
        found = f"decoder graphs with {sum(piece.widths.get('logits', 0) for piece in pieces)} logits"
        raise BundleError(found, f"{model.vocab_size} tokens", "export the bundle again")
    dtype, vision = np.dtype(manifest.dtype), _entry(manifest, VISION)
    rows = _matrix(vision, "embeddings")
    features = _matrix(vision, "features") if "features" in vision.outputs else None
    return Layout(manifest.dialect, dtype, pieces, model.num_kv_heads, model.head_dim, rows, features)


def _pieces(manifest: Manifest) -> Iterator[Piece]:
    first = 0
    for name in manifest.decoder:
        entry = _entry(manifest, name)
        if "past" in entry.inputs:
            count = _axes(entry, "inputs", "past")[1]
        else:
            count = sum(key.startswith("past_key_") for key in entry.inputs)
        widths = {key: _axes(entry, "outputs", key)[-1] for key in _RESULTS if key in entry.outputs}
        yield Piece(name, first, count, frozenset(entry.inputs), widths)
        first += count


def _entry(manifest: Manifest, name: str) -> GraphEntry:
    if name not in manifest.graphs:
        raise BundleError(f"no graph {name!r} in the manifest", ", ".join(manifest.graphs), "export the bundle again")
    return manifest.graphs[name]


def _matrix(entry: GraphEntry, name: str) -> tuple[int, int]:
    """Return rows and columns that an output has for each photo."""
    _, rows, columns = _axes(entry, "outputs", name)
    return rows, columns


def _axes(entry: GraphEntry, side: str, name: str) -> tuple[int, ...]:
    """Return the axes of an input or output; a dynamic one is 0."""
    known = entry.inputs if side == "inputs" else entry.outputs
    if name not in known:
        raise BundleError(f"{entry.file} without {name!r} among its {side}", action="export the bundle again")
    return tuple(size if isinstance(size, int) else 0 for size in known[name].shape)
