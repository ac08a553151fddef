"""Low-rank updates: a trained model learns through small matrices beside its large ones, which stay as they are.

Source: LoRA (Hu et al., 2021). A matrix W [out,in] becomes W + U D, with U [out,r] and D [r,in]. U starts at zero, so
that nothing changes before training, and the sum is an ordinary matrix again where the weights are saved.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from torch import Tensor, nn
from torch.nn.utils import parametrize

from .errors import InputError
from .fitting import CLASS_HEAD
from .layers import AttentionBlock
from .optimisation import NORMS

_MATRICES = {nn.Linear: "weight", AttentionBlock: "in_proj_weight"}
_ORIGINAL = re.compile(r"(?P<module>.*\.)parametrizations\.(?P<matrix>\w+)\.original")


class LowRank(nn.Module):
    """The update of one matrix [out,in]: the product of ``up`` [out,r] and ``down`` [r,in]."""

    def __init__(self, matrix: Tensor, *, rank: int) -> None:
        super().__init__()
        rows, columns = matrix.shape
        self.up = nn.Parameter(matrix.new_zeros(rows, rank))
        self.down = nn.Parameter(matrix.new_empty(rank, columns).normal_(std=columns**-0.5))

    def forward(self, matrix: Tensor) -> Tensor:
        """The updated matrix."""
        return matrix + self.up @ self.down


def add_low_rank(model: nn.Module, *, rank: int, fresh: Collection[str] = ()) -> None:
    """Let a model learn updates of the matrices of its linear and attention layers, and little else.

    Norms, embeddings, the class head and what is ``fresh`` are trained as they are. What is frozen already stays so,
    without updates.

    Args:
        model: the model, with its weights.
        rank: r of every update.
        fresh: names of parameters that start from random numbers, for which a small update would be too little.

    Raises:
        InputError: if the rank is not a positive number.
    """
    if rank < 1:
        raise InputError(f"updates of rank {rank} change nothing; give a rank of at least 1, or null for none")
    whole = {*fresh, *CLASS_HEAD, *_small_parameters(model)}
    places = [(module, matrix) for name, module, matrix in _trained_matrices(model) if name not in whole]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and name in whole)
    for module, matrix in places:
        parametrize.register_parametrization(module, matrix, LowRank(getattr(module, matrix).detach(), rank=rank))


def merge_low_rank(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a model with its updates added to their matrices: those of an ordinary model.

    An update that lacks a part, or does not fit its matrix, stays as it is.
    """
    merged = dict(state)
    for name, original in state.items():
        place = _ORIGINAL.fullmatch(name)
        parts = [name.removesuffix("original") + part for part in ("0.up", "0.down")]
        if place is None or not _fit(original, *map(state.get, parts)):
            continue
        up, down = (merged.pop(part) for part in parts)
        merged[place["module"] + place["matrix"]] = merged.pop(name) + up @ down
    return merged


def _fit(matrix: Tensor, up: Tensor | None, down: Tensor | None) -> bool:
    """Whether these are the parts of an update of the matrix."""
    if up is None or down is None or not up.ndim == down.ndim == 2:
        return False
    return up.shape[1] == len(down) and (len(up), down.shape[1]) == matrix.shape


def _small_parameters(model: nn.Module) -> Iterator[str]:
    """Names of the parameters of norms and embeddings."""
    for path, module in model.named_modules():
        if isinstance(module, NORMS):
            yield from (f"{path}.{name}" for name, _ in module.named_parameters(recurse=False))


def _trained_matrices(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Matrices of linear and attention layers that are not frozen: full name, module, and name in it."""
    for path, module in model.named_modules():
        matrix = _MATRICES.get(type(module))
        if matrix is not None and getattr(module, matrix).requires_grad:
            yield f"{path}.{matrix}", module, matrix
