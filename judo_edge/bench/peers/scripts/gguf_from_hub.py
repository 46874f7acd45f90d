"""Writes a Qwen2.5-VL checkpoint as llama.cpp reads it: `python gguf_from_hub.py HUB_FOLDER OUT_FOLDER TYPE`.

`model.gguf` is the language part with its linear layers in TYPE (f32, q8_0 or q4_0), `mmproj.gguf` the vision part in
float16 (float32 for f32). The head of a q4_0 model is q8_0: llama.cpp's own tool keeps it finer too. Names and keys
follow llama.cpp's converter; it is not used because it knows a tokenizer only by the digest of a published one.
"""

from __future__ import annotations

import json
import math
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PRE_TOKENIZER = "qwen2"
NEVER_MERGED = "ÿ ÿ"
"""A merge of two bytes that UTF-8 never holds: the reader refuses a vocabulary without merges."""
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5

_BLOCK = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_VISION_BLOCK = {
    "norm1": "ln1",
    "norm2": "ln2",
    "attn.proj": "attn_out",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_WHOLE = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "visual.merger.ln_q": "v.post_ln",
    "visual.merger.mlp.0": "mm.0",
    "visual.merger.mlp.2": "mm.2",
}


def tensors_from_folder(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield hub name and float32 values of every tensor, one at a time."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        for name, about in header.items():
            yield hub_name(name), _values(path, 8 + length, about)


def hub_name(name: str) -> str:
    """Return the hub's name of a tensor that may have transformers' newer one."""
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


def _values(path: Path, start: int, about: dict[str, Any]) -> Any:
    begin, _ = about["data_offsets"]
    dtypes = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}
    count = math.prod(about["shape"])
    raw = np.memmap(path, dtypes[about["dtype"]], "r", start + begin, count).reshape(about["shape"])
    if about["dtype"] == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32)


def gguf_tensors(name: str, values: Any) -> Iterator[tuple[str, Any]]:
    """Yield llama.cpp's name and values of a hub tensor; the joined and the three-dimensional ones become several."""
    module, _, kind = name.rpartition(".")
    if module == "visual.patch_embed.proj":
        yield "v.patch_embd.weight", values[:, :, 0]
        yield "v.patch_embd.weight.1", values[:, :, 1]
    elif module.endswith("attn.qkv"):
        layer = module.split(".")[2]
        for part, rows in zip("qkv", np.split(values, 3), strict=True):
            yield f"v.blk.{layer}.attn_{part}.{kind}", rows
    else:
        yield f"{gguf_module(module)}.{kind}", values


def gguf_module(module: str) -> str:
    """Return llama.cpp's name of a hub module; ValueError when it is none of Qwen2.5-VL's."""
    if module in _WHOLE:
        return _WHOLE[module]
    for pattern, prefix, names in (
        (r"model\.layers\.(\d+)\.(.+)", "blk", _BLOCK),
        (r"visual\.blocks\.(\d+)\.(.+)", "v.blk", _VISION_BLOCK),
    ):
        found = re.fullmatch(pattern, module)
        if found and found[2] in names:
            return f"{prefix}.{found[1]}.{names[found[2]]}"
    raise ValueError(f"{module} is no module of Qwen2.5-VL")


def write_language(config: dict[str, Any], tokenizer: dict[str, Any], out: Any) -> None:
    """Write the numbers and the vocabulary of the decoder; head dimensions follow from width and heads."""
    rope = config["rope_scaling"]["mrope_section"]
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_freq_base(config["rope_theta"])
    out.add_rope_dimension_sections([*rope, 0])
    write_vocabulary(config, tokenizer, out)


def write_vocabulary(config: dict[str, Any], tokenizer: dict[str, Any], out: Any) -> None:
    """Write a byte-level BPE; ids that no token has are filled up, because the embedding has rows for them."""
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    names = {id_: token for token, id_ in {**tokenizer["model"]["vocab"], **special}.items()}
    ids = range(config["vocab_size"])
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(PRE_TOKENIZER)
    out.add_token_list([names.get(id_, f"[PAD{id_}]") for id_ in ids])
    control = set(special.values())
    out.add_token_types([_CONTROL if i in control else _NORMAL if i in names else _UNUSED for i in ids])
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    out.add_token_merges(merges or [NEVER_MERGED])
    out.add_eos_token_id(special["<|im_end|>"])
    out.add_pad_token_id(special["<|endoftext|>"])
    out.add_add_bos_token(False)


def write_vision(config: dict[str, Any], preprocessor: dict[str, Any], out: Any) -> None:
    """Write the numbers of the tower; ValueError when its full-attention blocks are not evenly spaced."""
    import gguf

    vision = config["vision_config"]
    out.add_clip_has_vision_encoder(True)
    out.add_clip_projector_type(gguf.VisionProjectorType.QWEN25VL)
    out.add_vision_use_silu(True)
    out.add_vision_n_wa_pattern(window_period(vision["fullatt_block_indexes"], vision["depth"]))
    out.add_vision_attention_layernorm_eps(1e-6)
    out.add_vision_image_size(math.isqrt(preprocessor["max_pixels"]))
    out.add_vision_patch_size(vision["patch_size"])
    out.add_vision_embedding_length(vision["hidden_size"])
    out.add_vision_feed_forward_length(vision["intermediate_size"])
    out.add_vision_block_count(vision["depth"])
    out.add_vision_head_count(vision["num_heads"])
    out.add_vision_projection_dim(config["hidden_size"])
    out.add_vision_image_mean(preprocessor["image_mean"])
    out.add_vision_image_std(preprocessor["image_std"])


def window_period(full: list[int], depth: int) -> int:
    """Return n where every n-th block attends to the whole photo; ValueError when the blocks are spaced otherwise."""
    period = full[0] + 1
    if full != list(range(period - 1, depth, period)):
        raise ValueError(f"full attention in blocks {full} of {depth}: llama.cpp only knows every n-th")
    return period


def add_tensor(out: Any, name: str, values: Any, kind: str) -> None:
    """Add one tensor in `kind` (f32, f16, q8_0, q4_0); vectors and photo patches stay float32."""
    import gguf

    is_matrix = values.ndim == 2 and values.shape[1] % 32 == 0
    if not is_matrix or kind == "f32":
        out.add_tensor(name, np.ascontiguousarray(values, np.float32))
    elif kind == "f16":
        out.add_tensor(name, values.astype(np.float16))
    else:
        finer = kind == "q4_0" and name in ("output.weight", "token_embd.weight")
        quantized = gguf.GGMLQuantizationType["Q8_0" if finer else kind.upper()]
        out.add_tensor(name, gguf.quantize(np.ascontiguousarray(values), quantized), raw_dtype=quantized)


def main() -> None:
    """Write both files."""
    import gguf

    hub, out, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    config, tokenizer, preprocessor = (
        json.loads((hub / name).read_text()) for name in ("config.json", "tokenizer.json", "preprocessor_config.json")
    )
    out.mkdir(parents=True, exist_ok=True)
    language = gguf.GGUFWriter(out / "model.gguf", "qwen2vl")
    vision = gguf.GGUFWriter(out / "mmproj.gguf", "clip")
    write_language(config, tokenizer, language)
    write_vision(config, preprocessor, vision)
    for hub_tensor, values in tensors_from_folder(hub):
        for name, part in gguf_tensors(hub_tensor, values):
            is_vision = name.startswith(("v.", "mm."))
            vision_kind = "f32" if kind == "f32" else "f16"
            add_tensor(vision if is_vision else language, name, part, vision_kind if is_vision else kind)
    for writer in (language, vision):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


if __name__ == "__main__":
    main()
