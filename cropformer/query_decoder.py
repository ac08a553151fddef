"""Query decoder: Q queries read the levels of a set of views through masks that they predict themselves.

One decoder, one set of weights, serves as the image-level decoder (each view alone) and as the batch-level
decoder (all views of an image at once): paper equations 2, 3, 5 and 6.
Shapes: B batch, T views, Q queries, K classes, C channels, h and w of a level, S = T*h*w keys.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .layers import MLP, AttentionBlock, FeedForwardBlock
from .pixel_decoder import ENCODER_STRIDES, PixelFeatures
from .position import plane_code, view_code
from .precision import full_precision
from .queries import Queries, resize_features


class DecoderLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward; in this order, unlike the usual decoder."""

    def __init__(self, channels: int, *, heads: int, feedforward: int) -> None:
        super().__init__()
        self.cross_attention = AttentionBlock(channels, heads=heads)
        self.self_attention = AttentionBlock(channels, heads=heads)
        self.feedforward = FeedForwardBlock(channels, hidden=feedforward)

    def forward(
        self, state: Tensor, keys: Tensor, values: Tensor, *, query_code: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        """State [B,Q,C] to [B,Q,C]; ``keep`` bool [B,Q,S] says which of the keys [B,S,C] a query may read."""
        state = self.cross_attention(state, keys, values, query_code=query_code, keep=keep)
        state = self.self_attention(state, state + query_code, state, query_code=query_code)
        return self.feedforward(state)


@dataclass(frozen=True)
class Memory:
    """One level of all views as attention keys and values [B,S,C], with the mask features at its size."""

    keys: Tensor
    values: Tensor
    mask_features: Tensor  # [B,T,C,h,w]


class QueryDecoder(nn.Module):
    """Learnable queries, decoder layers that cycle through the levels, and the prediction heads.

    Args:
        channels: width C.
        num_queries: Q.
        num_classes: K, without "no object".
        layers: decoder layers; one more prediction set than layers is made.
        heads: attention heads.
        feedforward: hidden width of the feed-forward blocks.
    """

    def __init__(
        self,
        channels: int = 256,
        *,
        num_queries: int = 100,
        num_classes: int = 1,
        layers: int = 9,
        heads: int = 8,
        feedforward: int = 2048,
    ) -> None:
        super().__init__()
        self.query_features = nn.Embedding(num_queries, channels)
        self.query_positions = nn.Embedding(num_queries, channels)
        self.level_embed = nn.Embedding(len(ENCODER_STRIDES), channels)
        self.layers = nn.ModuleList(DecoderLayer(channels, heads=heads, feedforward=feedforward) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)
        self.class_head = nn.Linear(channels, num_classes + 1)
        self.mask_head = MLP(channels, out_channels=channels)

    def forward(
        self, features: PixelFeatures, *, views: int = 1, start: Tensor | None = None, depth: int | None = None
    ) -> Queries:
        """Decode ``views`` = T views jointly.

        Args:
            features: levels and mask features of B*T views, [B*T,C,h,w] each. Masks are made of the finest ones, while
                attention is masked by those at stride 4.
            views: T, how many consecutive views share their queries.
            start: initial state [B,Q,C] from the association module; the learnable queries otherwise.
            depth: layers to go through; None for all, 0 to predict straight from ``start``.

        Returns:
            The last prediction set, with the earlier ones as ``intermediate``.
        """
        finest = features.finest.unflatten(0, (-1, views))  # [BT,C,h,w] -> [B,T,C,h,w]
        coarse = features.mask_features.unflatten(0, (-1, views))  # likewise
        levels = features.levels if depth != 0 else ()
        memories = [self._remember(i, level, coarse) for i, level in enumerate(levels)]
        state = self.query_features.weight.expand(len(finest), -1, -1) if start is None else start
        sets = [self._predict(state, finest)]
        for i, layer in enumerate(self.layers[:depth]):
            memory = memories[i % len(memories)]
            keep = attention_keep(sets[-1].mask_embeddings, memory.mask_features)
            state = layer(state, memory.keys, memory.values, query_code=self.query_positions.weight, keep=keep)
            sets.append(self._predict(state, finest))
        return replace(sets[-1], intermediate=tuple(sets[:-1]))

    def _remember(self, index: int, level: Tensor, mask_features: Tensor) -> Memory:
        views, (channels, height, width) = mask_features.shape[1], level.shape[1:]
        tokens = level.unflatten(0, (-1, views)).permute(0, 1, 3, 4, 2).flatten(2, 3)  # [BT,C,h,w] -> [B,T,hw,C]
        code = plane_code(height, width, channels, level.device)
        if views > 1:
            code = code + view_code(views, channels, level.device)[:, None]  # [hw,C] + [T,1,C] -> [T,hw,C]
        values = tokens + self.level_embed.weight[index]
        keys = values + code
        with torch.no_grad():  # attention masks are read, never trained
            small = resize_features(mask_features, (height, width))
        return Memory(keys.flatten(1, 2), values.flatten(1, 2), small)  # [B,T,hw,C] -> [B,S,C]

    def _predict(self, state: Tensor, mask_features: Tensor) -> Queries:
        with full_precision(state.device):
            normed = self.norm(state.float())
            return Queries(state, self.class_head(normed), self.mask_head(normed), mask_features)


@torch.no_grad()
def attention_keep(mask_embeddings: Tensor, mask_features: Tensor) -> Tensor:
    """Which keys each query may read: its own mask, or everything where that mask is empty; bool [B,Q,S].

    Computed from mask features at the size of the level, never from a full-size mask.
    """
    with full_precision(mask_features.device):
        logits = torch.einsum("bqc,btchw->bqthw", mask_embeddings, mask_features.float())
    keep = (logits >= 0).flatten(2)  # [B,Q,T,h,w] -> [B,Q,S]
    return keep | ~keep.any(-1, keepdim=True)
