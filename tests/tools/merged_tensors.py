"""Do the matrices of a bundle equal PEFT's merge, quantized by a few lines of its own?

    python -m tests.tools.merged_tensors BUNDLE CHECKPOINT ADAPTER [--count 5] [--seed 0]

Draws matrices of the decoder, merges each with PEFT itself, rounds it here, and compares with what the bundle's files
hold. Uses nothing of judo_edge. Covers int8 by channel, int8 in blocks, float16 and float32, without a calibration.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Comparison:
    """One matrix of the bundle against its reference."""

    weight: str
    form: str
    values: int
    differing: int
    """Stored values that are not the reference's."""
    farthest: float
    """Greatest difference: steps of the grid, or a share of the largest float."""
    scales_differing: int

    @property
    def is_equal(self) -> bool:
        """Tell whether all that differs is the last bit of a sum: one step in at most one value of 100,000."""
        return self.farthest <= (1 if self.form.startswith("int8") else 1e-3) and self.differing <= 1e-5 * self.values


def drawn_weights(bundle: Path, count: int, seed: int) -> list[str]:
    """Draw matrices of the decoder's layers."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    layers = [name.split(".") for name in manifest["decisions"] if name.startswith("model.layers.")]
    names = [".".join(parts) for parts in layers if parts[-2] in LINEARS and parts[-1] == "weight"]
    return random.Random(seed).sample(sorted(names), count)


def compared(bundle: Path, checkpoint: Path, adapter: Path, weight: str) -> Comparison:
    """Compare one matrix of a bundle with the merge of a checkpoint and an adapter."""
    form = json.loads((bundle / "manifest.json").read_text())["decisions"][weight]["form"]
    wanted = merged(checkpoint, adapter, weight)
    if form == "int8-channel":
        codes, scales = stored(bundle, f"{weight}.int8").T, stored(bundle, f"{weight}.scales")
        steps = (wanted.abs().amax(1) / 127).to(torch.from_numpy(scales).dtype)
        rounded = torch.round(wanted / steps.float()[:, None])
    elif form.startswith("int8-block"):
        codes, scales = stored(bundle, f"{weight}.int8").astype(np.int16) - 128, stored(bundle, f"{weight}.scales")
        blocks = nn.functional.pad(wanted, (0, codes[0].size - wanted.shape[1])).view(codes.shape)
        steps = (blocks.abs().amax(2) / 127).flatten()
        rounded = torch.round(blocks / steps.view(*codes.shape[:2], 1))
    elif form in ("float16", "float32"):
        values = torch.from_numpy(stored(bundle, weight)).T.float()
        apart = (values - wanted.to(getattr(torch, form)).float()).abs()
        farthest = float(apart.max() / wanted.abs().max())
        return Comparison(weight, form, apart.numel(), int((apart > 0).sum()), farthest, 0)
    else:
        raise ValueError(f"{weight} is stored as {form}, which is not covered here")
    apart = (torch.from_numpy(codes.astype(np.float32)) - rounded).abs()
    other = int((torch.from_numpy(scales) != steps).sum())
    return Comparison(weight, form, apart.numel(), int((apart > 0).sum()), float(apart.max()), other)


def merged(checkpoint: Path, adapter: Path, weight: str) -> Tensor:
    """Return the float32 matrix (out, in) after PEFT's own merge of one layer."""
    from peft import LoraConfig, get_peft_model

    base = checkpoint_tensor(checkpoint, weight).float()
    holder = nn.Module()
    holder.linear = nn.Linear(base.shape[1], base.shape[0], bias=False)
    holder.linear.weight.data = base
    config = LoraConfig.from_pretrained(str(adapter))
    config.target_modules, config.init_lora_weights = ["linear"], False
    model: Any = get_peft_model(holder, config)
    layer = model.base_model.model.linear
    prefix = f"base_model.model.model.language_{weight.removesuffix('.weight')}"
    for side, factor in (("A", layer.lora_A), ("B", layer.lora_B)):
        factor["default"].weight.data = tensor_of(
            adapter / "adapter_model.safetensors", f"{prefix}.lora_{side}.weight"
        ).float()
    return model.merge_and_unload().linear.weight.detach()


def checkpoint_tensor(checkpoint: Path, weight: str) -> Tensor:
    """Read a tensor from the shard that the index names, or from the single file."""
    index = checkpoint / "model.safetensors.index.json"
    file = json.loads(index.read_text())["weight_map"][weight] if index.exists() else "model.safetensors"
    return tensor_of(checkpoint / file, weight)


def tensor_of(path: Path, name: str) -> Tensor:
    """Read one tensor of a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)


def stored(bundle: Path, name: str) -> np.ndarray:
    """Read an initializer of any of the bundle's graphs from its data file."""
    import onnx

    for path in sorted(bundle.glob("*.onnx")):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            if tensor.name == name:
                place = {entry.key: entry.value for entry in tensor.external_data}
                dtype, shape = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type), tuple(tensor.dims)
                offset = int(place["offset"])
                return np.fromfile(bundle / place["location"], dtype, int(np.prod(shape)), offset=offset).reshape(shape)
    raise ValueError(f"{bundle} has no initializer {name}")


def main() -> int:
    """Print a line for each matrix drawn; return 1 when one is not equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("bundle", "checkpoint", "adapter"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = []
    for weight in drawn_weights(args.bundle, args.count, args.seed):
        found.append(compared(args.bundle, args.checkpoint, args.adapter, weight))
        print(f"{'equal' if found[-1].is_equal else 'DIFFERS'}  {found[-1]}", flush=True)
    return 0 if found and all(item.is_equal for item in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
