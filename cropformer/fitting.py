"""Fitting: whether a tensor of a file fits one of a model, and tables of relative positions for another window."""

from __future__ import annotations

import math
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from .errors import InputError

CLASS_HEAD = ("query_decoder.class_head.weight", "query_decoder.class_head.bias")
_QUERIES = (
    "query_decoder.query_features.weight",
    "query_decoder.query_positions.weight",
    "association.queries.weight",
)


def misfit(name: str, tensor: Tensor, target: Tensor, *, path: Path) -> str:
    """Why the model's ``target`` keeps its values: class heads and queries may differ in number.

    Nothing if ``tensor`` can be taken over: as it is, or, a table of relative positions, resized.

    Raises:
        InputError: if it belongs to another model, or holds another kind of numbers.
    """
    if tensor.is_floating_point() != target.is_floating_point():
        raise InputError(f"{path} holds {name} as {tensor.dtype}, where {target.dtype} belongs; get it again")
    if tensor.shape == target.shape:
        return ""
    if tensor.ndim == target.ndim and tensor.shape[1:] == target.shape[1:]:
        if name in CLASS_HEAD or name in _QUERIES:
            kind = "outputs" if name in CLASS_HEAD else "queries"
            return f"{len(tensor)} {kind} in the file, {len(target)} in the model"
        if name.endswith("relative_position_bias_table") and window_of(len(tensor)):
            return ""
    raise InputError(
        f"{path} holds another model: {name} is {tuple(tensor.shape)} in the file and {tuple(target.shape)} in the "
        "model; choose the model it was made as"
    )


def resize_table(table: Tensor, rows: int) -> Tensor:
    """A table of relative positions [(2v-1)^2,M] for another window, [(2w-1)^2,M]; each head alone, bicubic."""
    before, after = (2 * window_of(count) - 1 for count in (len(table), rows))
    planes = table.T.unflatten(1, (before, before))[None]  # [(2v-1)^2,M] -> [1,M,2v-1,2v-1]
    planes = F.interpolate(planes, (after, after), mode="bicubic", align_corners=False)
    return planes[0].flatten(1).T  # [1,M,2w-1,2w-1] -> [(2w-1)^2,M]


def window_of(rows: int) -> int:
    """Side w of the window whose table of relative positions has (2w-1)^2 rows; 0 if there is no such window."""
    side = math.isqrt(rows)
    return (side + 1) // 2 if side % 2 and side * side == rows else 0
