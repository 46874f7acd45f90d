"""The weights that are exported: the checkpoint with every adapter added, row by row.

weight + sum of scaling x (lora_B @ lora_A), in float32. Adapters are added in the order of their digests, so the sum
does not depend, to the last bit, on the order in which they were given. Nothing is kept between calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from judo_edge.bundle import AdapterSource, Source
from judo_edge.core import Floats
from judo_edge.errors import AdapterError, CheckpointError
from judo_edge.export.adapter import Adapter, LoraPair
from judo_edge.export.checkpoint import Checkpoint, natural_key
from judo_edge.export.tensorfile import StoredTensor

_ANOTHER_BASE = "use the adapter with the checkpoint that it was trained on"
_SHARED = ("model.embed_tokens.weight", "lm_head.weight")


class MergedWeights:
    """A checkpoint with zero, one or several adapters; the one place that reads weights for export."""

    def __init__(self, checkpoint: Checkpoint, adapters: Sequence[Adapter] = ()) -> None:
        """Check that every adapter fits; raises AdapterError that names the first tensor that does not."""
        self.checkpoint = checkpoint
        self.adapters = tuple(sorted(adapters, key=lambda adapter: adapter.digest))
        for adapter in self.adapters:
            _check_adapter(checkpoint, adapter)
        _check_together(self.adapters)

    def checked(self, name: str, shape: tuple[int, ...]) -> StoredTensor:
        """Return where a tensor of this shape is stored; raises CheckpointError."""
        return self.checkpoint.checked(name, shape)

    def adapters_of(self, name: str) -> tuple[str, ...]:
        """Return the names of the adapters that change a tensor."""
        return tuple(adapter.name for adapter in self.adapters if name in adapter.changed)

    def rows(self, name: str, start: int, stop: int) -> Floats:
        """Return merged rows start..stop as float32, (stop - start, ...).

        Raises CheckpointError when a value is not finite: such weights would export, and then say nothing sensible.
        """
        tensor = self.checkpoint.tensor(name)
        for adapter in self.adapters:
            tensor = adapter.replacements.get(name, tensor)
        values = tensor.rows(start, stop)
        for adapter in self.adapters:
            if pair := adapter.pairs.get(name):
                values += delta_rows(pair, start, stop).reshape(values.shape)
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{name} holds values that are not finite", action="check how it was trained or copied"
            )
        return values

    def whole(self, name: str) -> Floats:
        """Return a whole merged tensor as float32: for small ones."""
        tensor = self.checkpoint.tensor(name)
        return self.rows(name, 0, tensor.num_rows).reshape(tensor.shape)


def delta_rows(pair: LoraPair, start: int, stop: int) -> Floats:
    """Return rows start..stop of scaling x (lora_B @ lora_A), float32, (stop - start, columns).

    An embedding's product is transposed. A convolution's kernels are columns, which is the same sum.
    """
    down = _factor(pair.down.rows(0, pair.down.num_rows))
    if pair.is_embedding:
        product = (_factor(pair.up.rows(0, pair.up.num_rows)) @ down[:, start:stop]).T
    else:
        product = _factor(pair.up.rows(start, stop)) @ down
    values: Floats = product.mul_(pair.scaling).numpy()
    return values


def _factor(values: Floats) -> torch.Tensor:
    """Return a factor as a matrix in torch's own memory: a product's last bit may depend on how operands are aligned,
    and an export that goes on must give the bytes of one that was never stopped."""
    return torch.from_numpy(values).flatten(1).clone()


def source_of(checkpoint: Checkpoint, adapters: Sequence[Adapter], digest: str) -> Source:
    """Describe what weights come from; `digest` is the checkpoint's, which takes reading all of it."""
    ordered = sorted(adapters, key=lambda adapter: adapter.digest)
    added = tuple(AdapterSource(name=item.name, digest=item.digest, tensors=len(item.changed)) for item in ordered)
    return Source(checkpoint=checkpoint.folder.resolve().name, digest=digest, adapters=added)


def _check_adapter(checkpoint: Checkpoint, adapter: Adapter) -> None:
    """Compare every tensor of the adapter with the base, in natural order of names."""
    for name in sorted(adapter.changed, key=natural_key):
        found = f"adapter {adapter.name}: {name}"
        if checkpoint.is_tied and name in _SHARED:
            raise AdapterError(
                f"{found} is shared by embedding and head in this base", "an adapter that leaves it alone"
            )
        if name not in checkpoint.tensors:
            raise AdapterError(f"{found} is not a tensor of {checkpoint.folder}", action=_ANOTHER_BASE)
        base = checkpoint.tensors[name].shape
        if whole := adapter.replacements.get(name):
            _check_shape(f"{found} (stored whole)", whole, base, base)
        if pair := adapter.pairs.get(name):
            _check_pair(found, pair, base)


def _check_pair(found: str, pair: LoraPair, base: tuple[int, ...]) -> None:
    rank = pair.down.shape[0]
    if pair.is_embedding:
        _check_shape(f"{found}: lora_embedding_A", pair.down, (rank, base[0]), base)
        _check_shape(f"{found}: lora_embedding_B", pair.up, (base[-1], rank), base)
    else:
        _check_shape(f"{found}: lora_A", pair.down, (rank, *base[1:]), base)
        _check_shape(f"{found}: lora_B", pair.up, (base[0], rank, *(1 for _ in base[2:])), base)


def _check_shape(found: str, tensor: StoredTensor, wanted: tuple[int, ...], base: tuple[int, ...]) -> None:
    tensor.check_readable()
    if tensor.shape != wanted:
        fit = f"{list(wanted)} to fit the base weight {list(base)}"
        raise AdapterError(f"{found} has shape {list(tensor.shape)}", fit, _ANOTHER_BASE)


def _check_together(adapters: tuple[Adapter, ...]) -> None:
    """Refuse adapters whose sum is not defined: one given twice, or a tensor replaced by one and changed by another."""
    for i, first in enumerate(adapters):
        for second in adapters[i + 1 :]:
            if first.digest == second.digest:
                raise AdapterError(f"adapter {first.name} is given twice", action="give every adapter once")
            replaced = set(first.replacements) & set(second.changed) | set(second.replacements) & set(first.changed)
            for name in sorted(replaced, key=natural_key):
                found = f"adapters {first.name} and {second.name} both change {name}, which one of them replaces"
                raise AdapterError(found, action="merge one of them into the checkpoint first")
