"""The post-norm transformer blocks that the query decoder, the association module and the encoder share.

Shapes: B batch, Q queries, S keys, C channels.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

TOKENS_AT_ONCE = 1024  # a hidden layer of this many rows stays in the cache of a core


def in_chunks(function: Callable[..., Tensor], *tensors: Tensor, size: int, dim: int) -> Tensor:
    """``function`` of tensors that are cut along ``dim``, ``size`` at a time; the result is shaped as the first one.

    On a CPU only, where temporaries that leave the cache cost page faults. With gradients the chunks keep their inputs
    and are computed again in the backward pass: a tenth more work, a third less memory for a training step. Elsewhere
    the function is called once, and so it is for a compiler, which would see every part as code of its own.

    Args:
        function: draws no random numbers.
        tensors: what is cut; all of the same length along ``dim``.
        size: length of a chunk.
        dim: where to cut.
    """
    first = tensors[0]
    if torch.compiler.is_compiling() or first.device.type != "cpu" or first.shape[dim] <= size:
        return function(*tensors)
    parts = zip(*(tensor.split(size, dim) for tensor in tensors))
    if torch.is_grad_enabled():
        again = partial(checkpoint, function, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([again(*part) for part in parts], dim)
    result = torch.empty_like(first)
    for part, target in zip(parts, result.split(size, dim)):
        target.copy_(function(*part))
    return result


def token_wise(function: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """``function`` of tokens [...,C] that do not look at each other, to the same shape; see ``in_chunks``."""
    rows = in_chunks(function, tokens.flatten(0, -2), size=TOKENS_AT_ONCE, dim=0)  # [...,C] -> [S,C]
    return rows.view(tokens.shape)


class AttentionBlock(nn.Module):
    """Multi-head attention, residual and LayerNorm; parameters are laid out as in ``nn.MultiheadAttention``."""

    def __init__(self, channels: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        query_code: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Attend from ``queries`` [B,Q,C] to ``keys`` and ``values`` [B,S,C].

        Args:
            queries: state to update.
            keys: what is compared, position codes included.
            values: what is read.
            query_code: position code added to the queries for the comparison only.
            keep: bool [B,Q,S], True where a query may look; the same for all heads.
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        sources = (queries if query_code is None else queries + query_code, keys, values)
        q, k, v = (
            F.linear(source, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B,S,C] -> [B,heads,S,c]
            for source, weight, bias in zip(sources, weights, biases)
        )
        mask = None if keep is None else keep[:, None]  # broadcast over heads
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        attended = attended.transpose(1, 2).flatten(2)  # [B,heads,Q,c] -> [B,Q,C]
        return self.norm(queries + self.out_proj(attended))


class FeedForwardBlock(nn.Module):
    """Two linear layers with a ReLU between, residual and LayerNorm."""

    def __init__(self, channels: int, *, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B,S,C] to [B,S,C]."""
        return token_wise(self._transform, tokens)

    def _transform(self, tokens: Tensor) -> Tensor:
        return self.norm(tokens + self.linear2(F.relu(self.linear1(tokens), inplace=True)))


class MLP(nn.Module):
    """Three linear layers of equal width with ReLU between them: decoder state to mask embedding."""

    def __init__(self, channels: int, *, out_channels: int) -> None:
        super().__init__()
        widths = (channels, channels, channels, out_channels)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))

    def forward(self, x: Tensor) -> Tensor:
        """[...,C] to [...,out_channels]."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class ConvNorm(nn.Module):
    """Convolution and 32-group GroupNorm, with or without a bias and a ReLU."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        kernel: int,
        stride: int = 1,
        bias: bool = False,
        relu: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=bias)
        self.norm = nn.GroupNorm(32, channels)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """[B,C_in,h,w] to [B,C,h,w], with a stride to as much smaller planes."""
        x = self.norm(self.conv(x).float())  # what lies between matrix products stays in fp32 under autocast
        return F.relu(x, inplace=True) if self.relu else x
