"""The published layout of CropFormer and Mask2Former (detectron2), read with its legacy names and written back.

Also that of detectron2's ImageNet backbones, which have the same names without ``backbone.``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from ..architecture import Architecture
from ..errors import InputError
from .renaming import NameTable, Translation, translate_names

NAME = "official CropFormer or Mask2Former"
_PIXELS = "sem_seg_head.pixel_decoder."
_ENCODER, _OUR_ENCODER = _PIXELS + "transformer.encoder.layers.{}.", "pixel_decoder.layers.{}."
_QUERIES = "sem_seg_head.predictor."
_BLOCK, _OUR_BLOCK = "backbone.res{+2}.{}.", "backbone.stages.{}.{}."


def _attention(theirs: str, module: str, ours: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """An attention block: its norm, and the module around the projections that ours does without."""
    return (f"{theirs}.norm.", f"{ours}.norm."), (f"{theirs}.{module}.", f"{ours}.")


NAMES = NameTable(
    (
        ("backbone.norm{}.", "backbone.norms.{}."),
        ("backbone.stem.conv1.norm.", "backbone.stem.norm."),
        ("backbone.stem.conv1.", "backbone.stem.conv."),
        (_BLOCK + "conv{}.norm.", _OUR_BLOCK + "conv{}.norm."),
        (_BLOCK + "conv{}.", _OUR_BLOCK + "conv{}.conv."),
        (_BLOCK + "shortcut.norm.", _OUR_BLOCK + "shortcut.norm."),
        (_BLOCK + "shortcut.", _OUR_BLOCK + "shortcut.conv."),
        (_PIXELS + "input_proj.{}.0.", "pixel_decoder.input_projections.{}.conv."),
        (_PIXELS + "input_proj.{}.1.", "pixel_decoder.input_projections.{}.norm."),
        (_PIXELS + "transformer.level_embed", "pixel_decoder.level_embed"),
        (_ENCODER + "self_attn.", _OUR_ENCODER + "attention."),
        (_ENCODER + "norm1.", _OUR_ENCODER + "norm."),
        (_ENCODER + "norm2.", _OUR_ENCODER + "feedforward.norm."),
        (_ENCODER + "linear", _OUR_ENCODER + "feedforward.linear"),
        (_PIXELS + "adapter_1.norm.", "pixel_decoder.lateral.norm."),
        (_PIXELS + "adapter_1.", "pixel_decoder.lateral.conv."),
        (_PIXELS + "layer_1.norm.", "pixel_decoder.output.norm."),
        (_PIXELS + "layer_1.", "pixel_decoder.output.conv."),
        (_PIXELS + "mask_features.", "pixel_decoder.mask_projection."),
        *_attention(_QUERIES + "make_3d.enc_crosattn_3d.0", "multihead_attn", "association.cross_attention"),
        *_attention(_QUERIES + "make_3d.enc_selfattn_3d.0", "self_attn", "association.self_attention"),
        (_QUERIES + "make_3d.enc_ffn_3d.0.", "association.feedforward."),
        *_attention(
            _QUERIES + "transformer_cross_attention_layers.{}",
            "multihead_attn",
            "query_decoder.layers.{}.cross_attention",
        ),
        *_attention(
            _QUERIES + "transformer_self_attention_layers.{}", "self_attn", "query_decoder.layers.{}.self_attention"
        ),
        (_QUERIES + "transformer_ffn_layers.{}.", "query_decoder.layers.{}.feedforward."),
        (_QUERIES + "decoder_norm.", "query_decoder.norm."),
        (_QUERIES + "query_feat.", "query_decoder.query_features."),
        (_QUERIES + "query_embed.", "query_decoder.query_positions."),
        (_QUERIES + "level_embed.", "query_decoder.level_embed."),
        (_QUERIES + "class_embed.", "query_decoder.class_head."),
        (_QUERIES + "mask_embed.", "query_decoder.mask_head."),
    )
)
# Older files name the queries otherwise, leave the pixel decoder out of the names of its parts, or say it twice.
_LEGACY = (
    (re.compile(r"^sem_seg_head\.(?!predictor\.)(pixel_decoder\.)*"), _PIXELS),
    (re.compile(r"^sem_seg_head\.predictor\.static_query\."), _QUERIES + "query_feat."),
)
# Constants that the published code stores but no model needs, and the classifier of an ImageNet backbone.
_IGNORED = re.compile(
    r"criterion(_2d|_3d)?\.empty_weight$|.*relative_position_index$|pixel_(mean|std)$"
    r"|stem\.fc\.|.*num_batches_tracked$"
)


def recognises(names: Collection[str]) -> bool:
    """Whether these are the names of such a file."""
    return "stem.conv1.weight" in names or any(name.startswith(("sem_seg_head.", "backbone.")) for name in names)


def to_ours(tensors: Mapping[str, Tensor]) -> Translation:
    """The tensors of a file under our names."""
    prefix = "backbone." if "stem.conv1.weight" in tensors else ""
    return translate_names(tensors, lambda name: NAMES.to_ours(_modern(prefix + name)), ignored=_IGNORED)


def _modern(name: str) -> str:
    for pattern, replacement in _LEGACY:
        name = pattern.sub(replacement, name)
    return name


def from_ours(state: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """The tensors of a model as the published code stores them, its constants included.

    Raises:
        InputError: if the published code has no such model.
    """
    _check_published(architecture)
    tensors = {NAMES.from_ours(name): tensor for name, tensor in state.items()}
    return tensors | dict(_window_indices(tensors)) | _class_weights(architecture)


def _check_published(architecture: Architecture) -> None:
    """The published code knows one association module, and its files cannot state heads and points."""
    a = architecture
    if a.backbone == "timm" or a.association not in ("none", "cross+self+feedforward") or a.batch_layers is not None:
        raise InputError(
            f"the official layout has no place for a {a.backbone} backbone with association {a.association!r}; "
            "write .safetensors"
        )
    if a.fine_level:
        raise InputError("the official layout has no place for a fine level; write .safetensors")
    if (a.heads, a.points) != (8, 4):
        raise InputError(
            f"the official layout means 8 heads and 4 points, not {a.heads} and {a.points}; write .safetensors"
        )


def _window_indices(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The constant that the published Swin stores beside each table of relative positions."""
    from ..backbones.swin import relative_position_index  # torchvision takes seconds to load

    for name, tensor in tensors.items():
        if name.endswith(".relative_position_bias_table"):
            window = (math.isqrt(len(tensor)) + 1) // 2
            yield name.replace("_bias_table", "_index"), relative_position_index(window).clone()


def _class_weights(architecture: Architecture) -> dict[str, Tensor]:
    """The constant that the published criteria store: each class counts 1, "no object" 0.1."""
    criteria = ("criterion",) if architecture.association == "none" else ("criterion_2d", "criterion_3d")
    weights = torch.tensor([1.0] * architecture.num_classes + [0.1])
    return {f"{criterion}.empty_weight": weights.clone() for criterion in criteria}
