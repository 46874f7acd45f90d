"""A Qwen2.5-VL of any width without its numbers, ready to be traced.

Builds the real transformers model on the meta device with one layer of each kind and gives it fake parameters, so that
a 7B model costs a few megabytes and seconds. Only the rotary frequencies are real. Needs torch and transformers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from judo_edge.errors import CheckpointError
from judo_edge.export.graphs.attention import FOLDED_ATTENTION, folded_attention
from judo_edge.export.graphs.modules import MatrixLinear, MatrixPatchEmbed, RootNorm
from judo_edge.export.graphs.spec import Dialect, GraphForm


@dataclass(frozen=True)
class FakeModel:
    """The parts to trace, and the mode in which example inputs must be made."""

    config: Any
    """transformers' Qwen2_5_VLConfig of the whole model."""
    form: GraphForm
    visual: Any
    """The tower with one block."""
    text: Any
    """The text model with one layer."""
    lm_head: nn.Module
    vision_rotary: Any
    """Rotary module of the tower with real frequencies."""
    mode: FakeTensorMode

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of weights, inputs and outputs."""
        dtype: torch.dtype = getattr(torch, self.form.dtype)
        return dtype


def config_from(source: Any) -> Any:
    """Return the Qwen2_5_VLConfig from one, from a dict, or from the path of a config.json or of its folder.

    Raises CheckpointError when the file cannot be read or describes a model that the graphs do not cover.
    """
    from transformers import Qwen2_5_VLConfig

    if isinstance(source, Qwen2_5_VLConfig):
        return _checked(copy.deepcopy(source))  # building a model writes into its config
    values = dict(source) if isinstance(source, Mapping) else _json_from_path(Path(source))
    if values.get("model_type") != "qwen2_5_vl":
        raise CheckpointError(f"model_type {values.get('model_type')!r} in config.json", "qwen2_5_vl")
    try:
        return _checked(Qwen2_5_VLConfig.from_dict(values))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise CheckpointError(f"config.json that transformers refuses: {error}", "a Qwen2.5-VL config") from error


def fake_model(config: Any, form: GraphForm) -> FakeModel:
    """Return one text layer and one vision block of `config` with fake parameters of the form's type.

    Layers and blocks of a model differ in their numbers alone. Matrices are stored as (in, out), norms are `RootNorm`.
    """
    from transformers import Qwen2_5_VLForConditionalGeneration
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as source

    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(_shallow(config)).eval()
    ALL_ATTENTION_FUNCTIONS.register(FOLDED_ATTENTION, folded_attention)
    text, visual = model.model.language_model, model.model.visual
    text.config._attn_implementation = FOLDED_ATTENTION
    text.rotary_emb = source.Qwen2_5_VLRotaryEmbedding(text.config)
    rotary = source.Qwen2_5_VLVisionRotaryEmbedding(visual.config)
    del visual.rotary_pos_emb, text.embed_tokens
    dtype: torch.dtype = getattr(torch, form.dtype)
    _replace(model, form.dialect, dtype)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    _fake_parameters(model, mode, dtype)
    _fake_parameters(nn.ModuleList(m for m in visual.modules() if isinstance(m, RootNorm)), mode, torch.float32)
    return FakeModel(config, form, visual, text, model.lm_head, rotary, mode)


def _json_from_path(path: Path) -> dict[str, Any]:
    file = path / "config.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: {error}", "a readable config.json") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} with {type(values).__name__}", "a JSON object")
    return values


def _checked(config: Any) -> Any:
    kinds = sorted(set(config.text_config.layer_types) - {"full_attention"})
    if kinds:
        raise CheckpointError(f"decoder layers of type {', '.join(kinds)}", "full_attention in every layer")
    return config


def _shallow(config: Any) -> Any:
    """Return the config with one text layer and one vision block."""
    shallow = copy.deepcopy(config)
    text, vision = shallow.text_config, shallow.vision_config
    text.num_hidden_layers, text.layer_types = 1, text.layer_types[:1]
    vision.depth, vision.fullatt_block_indexes = 1, []
    return shallow


def _replace(module: nn.Module, dialect: Dialect, dtype: torch.dtype) -> None:
    """Put our form in the place of linear layers, norms and the patch embedding, weights still on the meta device."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionPatchEmbed, Qwen2_5_VLRMSNorm

    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            matrix = child.weight.new_empty((child.in_features, child.out_features))
            setattr(module, name, MatrixLinear(matrix, child.bias))
        elif isinstance(child, Qwen2_5_VLRMSNorm):
            setattr(module, name, RootNorm(child, dialect, dtype))
        elif isinstance(child, Qwen2_5_VisionPatchEmbed):
            setattr(module, name, MatrixPatchEmbed(child.proj))
        else:
            _replace(child, dialect, dtype)


def _fake_parameters(model: nn.Module, mode: FakeTensorMode, dtype: torch.dtype) -> None:
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            with mode:
                fake = torch.empty(parameter.shape, dtype=dtype)
            module.register_parameter(name, nn.Parameter(fake, requires_grad=False))
