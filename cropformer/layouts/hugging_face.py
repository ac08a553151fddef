"""Mask2Former on Swin as Hugging Face's transformers stores it: the hub's names, those of version 5 in memory, and
those of the first files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from .renaming import NameTable, Translation, translate_names

NAME = "Hugging Face Mask2Former"
_SWIN, _PIXELS = "pixel_level_module.encoder.", "pixel_level_module.decoder."
_BLOCK, _OUR_BLOCK = _SWIN + "encoder.layers.{}.blocks.{}.", "backbone.layers.{}.blocks.{}."
_ENCODER, _OUR_ENCODER = _PIXELS + "encoder.layers.{}.", "pixel_decoder.layers.{}."
_QUERIES = "transformer_module."
_LAYER, _OUR_LAYER = _QUERIES + "decoder.layers.{}.", "query_decoder.layers.{}."

NAMES = NameTable(
    (
        (_SWIN + "embeddings.patch_embeddings.projection.", "backbone.patch_embed.proj."),
        (_SWIN + "embeddings.norm.", "backbone.patch_embed.norm."),
        (_BLOCK + "layernorm_before.", _OUR_BLOCK + "norm1."),
        (_BLOCK + "layernorm_after.", _OUR_BLOCK + "norm2."),
        (_BLOCK + "attention.self.", _OUR_BLOCK + "attn."),
        (_BLOCK + "attention.output.dense.", _OUR_BLOCK + "attn.proj."),
        (_BLOCK + "attention.qkv.", _OUR_BLOCK + "attn.qkv."),
        (_BLOCK + "attention.o_proj.", _OUR_BLOCK + "attn.proj."),
        (_BLOCK + "attention.relative_position_bias.", _OUR_BLOCK + "attn."),
        (_BLOCK + "intermediate.dense.", _OUR_BLOCK + "mlp.fc1."),
        (_BLOCK + "output.dense.", _OUR_BLOCK + "mlp.fc2."),
        (_BLOCK + "mlp.", _OUR_BLOCK + "mlp."),
        (_SWIN + "encoder.layers.{}.downsample.", "backbone.layers.{}.downsample."),
        (_SWIN + "hidden_states_norms.stage{+1}.", "backbone.norms.{}."),
        (_SWIN + "hidden_states_norms.{}.", "backbone.norms.{}."),
        (_PIXELS + "input_projections.{}.0.", "pixel_decoder.input_projections.{}.conv."),
        (_PIXELS + "input_projections.{}.1.", "pixel_decoder.input_projections.{}.norm."),
        (_PIXELS + "level_embed", "pixel_decoder.level_embed"),
        (_ENCODER + "self_attn.", _OUR_ENCODER + "attention."),
        (_ENCODER + "self_attn_layer_norm.", _OUR_ENCODER + "norm."),
        (_ENCODER + "fc", _OUR_ENCODER + "feedforward.linear"),
        (_ENCODER + "final_layer_norm.", _OUR_ENCODER + "feedforward.norm."),
        (_PIXELS + "adapter_1.0.", "pixel_decoder.lateral.conv."),
        (_PIXELS + "adapter_1.1.", "pixel_decoder.lateral.norm."),
        (_PIXELS + "layer_1.0.", "pixel_decoder.output.conv."),
        (_PIXELS + "layer_1.1.", "pixel_decoder.output.norm."),
        (_PIXELS + "mask_projection.", "pixel_decoder.mask_projection."),
        (_QUERIES + "queries_features.", "query_decoder.query_features."),
        (_QUERIES + "queries_embedder.", "query_decoder.query_positions."),
        (_QUERIES + "level_embed.", "query_decoder.level_embed."),
        (_LAYER + "self_attn.qkv.", _OUR_LAYER + "self_attention.in_proj_"),
        (_LAYER + "self_attn.", _OUR_LAYER + "self_attention."),
        (_LAYER + "self_attn_layer_norm.", _OUR_LAYER + "self_attention.norm."),
        (_LAYER + "cross_attn.", _OUR_LAYER + "cross_attention."),
        (_LAYER + "cross_attn_layer_norm.", _OUR_LAYER + "cross_attention.norm."),
        (_LAYER + "fc", _OUR_LAYER + "feedforward.linear"),
        (_LAYER + "final_layer_norm.", _OUR_LAYER + "feedforward.norm."),
        (_QUERIES + "decoder.layernorm.", "query_decoder.norm."),
        (_QUERIES + "decoder.mask_predictor.mask_embedder.{}.0.", "query_decoder.mask_head.layers.{}."),
        ("class_predictor.", "query_decoder.class_head."),
    )
)
# The model is "model." of the one with a class head; Swin is "swin." of its backbone, "model." in the first files.
_WRAPPERS = (
    (re.compile(r"^model\."), ""),
    (re.compile(r"^pixel_level_module\.encoder\.(model|swin)\."), _SWIN),
)
_THIRD = re.compile(r"(.*\.)(?:(query|q_proj)|(key|k_proj)|(value|v_proj))\.(weight|bias)")
# Constants, and Swin's last norm, which its four output norms stand in for.
_IGNORED = re.compile(r"criterion\.empty_weight$|.*relative_position_index$|.*encoder\.(model\.|swin\.)?layernorm\.")


def recognises(names: Collection[str]) -> bool:
    """Whether these are the names of such a file."""
    return any(name.removeprefix("model.").startswith("pixel_level_module.") for name in names)


def to_ours(tensors: Mapping[str, Tensor]) -> Translation:
    """The tensors of a file under our names."""
    return translate_names(_join_thirds(tensors), lambda name: NAMES.to_ours(_unwrapped(name)), ignored=_IGNORED)


def _unwrapped(name: str) -> str:
    for pattern, replacement in _WRAPPERS:
        name = pattern.sub(replacement, name)
    return name


def _join_thirds(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value projections as one tensor named ``qkv``; less than three of one shape stay as they are."""
    thirds: dict[str, dict[int, str]] = defaultdict(dict)
    for name in tensors:
        if match := _THIRD.fullmatch(name):
            index = next(i for i in range(3) if match[i + 2])
            thirds[f"{match[1]}qkv.{match[5]}"][index] = name
    alike = {joined for joined, parts in thirds.items() if len({tensors[name].shape for name in parts.values()}) == 1}
    whole = {joined: [thirds[joined][i] for i in range(3)] for joined in alike if len(thirds[joined]) == 3}
    used = {name for parts in whole.values() for name in parts}
    kept = {name: tensor for name, tensor in tensors.items() if name not in used}
    return kept | {joined: torch.cat([tensors[name] for name in parts]) for joined, parts in whole.items()}
