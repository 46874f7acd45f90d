"""Random-weight checkpoints of any size, written shard by shard, and the peak memory of exporting one.

    python -m tests.tools.random_checkpoint FOLDER [--shape 7B|3B|0.5B|tiny|nano] [--shards N] [--adapter-rank 32]
                                            [--unit-norms]
    python -m tests.tools.random_checkpoint FOLDER --measure [--recipe cpu-int8] [--adapter DIR]

Measuring runs the export in a process of its own and prints one JSON line: peak resident memory, seconds, bytes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from statistics import NormalDist
from typing import Any

from tests.peak import peak_of
from tests.tiny import TinyShape

SHAPES: dict[str, TinyShape] = {
    "tiny": TinyShape(vocab_size=320),
    "nano": TinyShape(
        vocab_size=1024, hidden_size=256, intermediate_size=704, layers=6, heads=4, kv_heads=2,
        mrope_section=(8, 12, 12), vision_hidden=128, vision_mlp=384, vision_depth=4, vision_heads=4,
        full_attention_blocks=(1, 3),
    ),
    "0.5B": TinyShape(
        vocab_size=151_936, hidden_size=896, intermediate_size=4864, layers=24, heads=14, kv_heads=2,
        rope_theta=1e6, mrope_section=(8, 12, 12), vision_hidden=640, vision_mlp=1712, vision_depth=16, vision_heads=8,
        full_attention_blocks=(3, 7, 11, 15),
    ),
    "3B": TinyShape(
        vocab_size=151_936, hidden_size=2048, intermediate_size=11_008, layers=36, heads=16, kv_heads=2, tied=True,
        rope_theta=1e6, mrope_section=(16, 24, 24), vision_hidden=1280, vision_mlp=3420, vision_depth=32,
        vision_heads=16, full_attention_blocks=(7, 15, 23, 31),
    ),
    "7B": TinyShape(
        vocab_size=152_064, hidden_size=3584, intermediate_size=18_944, layers=28, heads=28, kv_heads=4,
        rope_theta=1e6, mrope_section=(16, 24, 24), vision_hidden=1280, vision_mlp=3420, vision_depth=32,
        vision_heads=16, full_attention_blocks=(7, 15, 23, 31),
    ),
}  # fmt: skip
"""3B and 7B: Qwen2.5-VL's. 0.5B: the decoder of Qwen2.5-0.5B with an own head, and half the tower of Qwen2.5-VL."""

DECODER_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Peak:
    """What one export cost."""

    recipe: str
    checkpoint_bytes: int
    bundle_bytes: int
    peak_rss_bytes: int
    """Peak resident memory of the whole export process, libraries included."""
    libraries_rss_bytes: int
    """Peak of a process that only imports what export imports."""
    seconds: float


def write_random_checkpoint(
    folder: Path, shape: TinyShape, shards: int = 4, image_size: int = 504, unit_norms: bool = False
) -> Path:
    """Write a bfloat16 checkpoint without ever holding more than one tensor.

    Without `unit_norms` the norms are as small as all weights: sizes are right, but every reply is one token for ever,
    which flatters whatever guesses from the text so far.
    """
    from judo_edge.protocol.profile import PromptProfile, save_profile
    from judo_edge.vision.geometry import CLIP_MEAN, CLIP_STD
    from tests.checkpoints import byte_tokenizer
    from tests.tiny import tiny_config

    folder.mkdir(parents=True)
    config = tiny_config(shape)
    config.architectures = ["Qwen2_5_VLForConditionalGeneration"]
    config.save_pretrained(str(folder))
    sizes = _parameter_shapes(config)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(_even_parts(sizes, shards), start=1):
        file = f"model-{number:05d}-of-{shards:05d}.safetensors"
        _write_shard(folder / file, {name: sizes[name] for name in names})
        if unit_norms:
            _set_norms_to_one(folder / file)
        weight_map.update(dict.fromkeys(names, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    save_profile(PromptProfile(name="random", system="", resize=512, image_size=image_size), folder / "profile.toml")
    statistics = {"image_mean": list(CLIP_MEAN), "image_std": list(CLIP_STD)}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return folder


def write_random_adapter(folder: Path, shape: TinyShape, rank: int) -> Path:
    """Write a float32 LoRA over every linear layer of the decoder, in the files and names of PEFT."""
    from peft import LoraConfig

    from tests.tiny import tiny_config

    folder.mkdir(parents=True)
    modules = rf".*language_model.*\.({'|'.join(DECODER_LINEARS)})"  # the photos' tower has layers of these names too
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=modules, inference_mode=True)
    config.save_pretrained(str(folder))
    sizes: dict[str, tuple[int, ...]] = {}
    for name, (rows, columns) in _decoder_linears(_parameter_shapes(tiny_config(shape))):
        module = f"base_model.model.model.language_{name.removesuffix('.weight')}"
        sizes[f"{module}.lora_A.weight"], sizes[f"{module}.lora_B.weight"] = (rank, columns), (rows, rank)
    _write_shard(folder / "adapter_model.safetensors", sizes, "F32")
    return folder


def measured_export(checkpoint: Path, recipe: str, adapters: list[Path]) -> Peak:
    """Export in a process of its own and return its peak memory."""
    with tempfile.TemporaryDirectory(dir=checkpoint.parent) as folder:
        out = Path(folder) / "bundle"
        start = time.monotonic()
        peak = peak_of(_EXPORT, str(checkpoint), recipe, str(out), *map(str, adapters))
        seconds = time.monotonic() - start
        bundle_bytes = _folder_bytes(out)
    return Peak(recipe, _folder_bytes(checkpoint), bundle_bytes, peak, peak_of(_IMPORT), round(seconds, 1))


_IMPORT = "import judo_edge.export.pipeline, transformers.models.qwen2_5_vl.modeling_qwen2_5_vl, onnxscript.optimizer"
_EXPORT = (
    "import sys; from judo_edge.export.pipeline import export_bundle; "
    "export_bundle(sys.argv[1], sys.argv[4:], sys.argv[2], sys.argv[3])"
)


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _parameter_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Return hub name and shape of every parameter, without making one."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    from judo_edge.export.graphs import checkpoint_name_from_module_name

    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    return {checkpoint_name_from_module_name(name): tuple(p.shape) for name, p in model.named_parameters()}


def _even_parts(sizes: Mapping[str, tuple[int, ...]], count: int) -> Iterator[list[str]]:
    """Split names into `count` runs of about the same number of values."""
    total, done, part = sum(map(prod, sizes.values())), 0, []
    limits = [total * (i + 1) // count for i in range(count)]
    for name, shape in sizes.items():
        part.append(name)
        done += prod(shape)
        if done >= limits[0]:
            yield part
            part = []
            limits = [limit for limit in limits if limit > done] or [total]


def _decoder_linears(sizes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, shape in sizes.items():
        if name.startswith("model.layers.") and name.split(".")[-2:] in [[kind, "weight"] for kind in DECODER_LINEARS]:
            yield name, shape


def _write_shard(path: Path, sizes: Mapping[str, tuple[int, ...]], dtype: str = "BF16") -> None:
    """Write normal values with the standard deviation of a trained layer, 0.02, as bfloat16 or float32."""
    import numpy as np

    table = _normal_values() if dtype == "F32" else (_normal_values().view(np.uint32) >> 16).astype(np.uint16)
    header, end = {}, 0
    for name, shape in sizes.items():
        size = table.itemsize * prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    generator = np.random.Generator(np.random.SFC64(zlib.crc32(path.name.encode())))
    with path.open("wb", buffering=0) as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        remaining = end // table.itemsize
        while remaining:
            count = min(remaining, 1 << 20)
            draws = generator.integers(0, 1 << 16, count, np.uint16)
            file.write(table[draws].data)
            remaining -= count


def _set_norms_to_one(path: Path) -> None:
    """Overwrite the weights of the norms in a bfloat16 shard."""
    norms = tuple(f"{name}.weight" for name in ("norm", "norm1", "norm2", "ln_q"))
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        for name, about in json.loads(file.read(length)).items():
            if name.endswith(norms):
                begin, end = about["data_offsets"]
                file.seek(8 + length + begin)
                file.write(b"\x80\x3f" * ((end - begin) // 2))


@lru_cache(maxsize=1)
def _normal_values() -> Any:
    """Return 65,536 equally likely values of a normal distribution: drawing an index is ten times faster."""
    import numpy as np

    inverse = NormalDist(0, 0.02).inv_cdf
    return np.array([inverse((i + 0.5) / 65_536) for i in range(65_536)], np.float32)


def main() -> None:
    """Write a checkpoint, or measure the export of one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="0.5B")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--adapter-rank", type=int, default=0, help="also write adapters/rankN inside the folder")
    parser.add_argument("--image-size", type=int, default=504)
    parser.add_argument("--unit-norms", action="store_true", help="norms of one, so that replies vary")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--recipe", default="cpu-int8")
    parser.add_argument("--adapter", type=Path, action="append", default=[])
    args = parser.parse_args()
    if not args.measure:
        write_random_checkpoint(args.folder, SHAPES[args.shape], args.shards, args.image_size, args.unit_norms)
        if args.adapter_rank:
            name = f"rank{args.adapter_rank}"
            write_random_adapter(args.folder / "adapters" / name, SHAPES[args.shape], args.adapter_rank)
        return
    peak = measured_export(args.folder, args.recipe, args.adapter)
    for key, value in vars(peak).items():
        print(f"{key:22} {value}")
    print(json.dumps(vars(peak)))


if __name__ == "__main__":
    main()
