"""Object token decoder: batch-level queries that read nothing but the image-level ones, as in VITA.

VITA (Heo et al., 2022) lets the object tokens of all frames exchange what they know, and decodes them with learned
queries; it never returns to the pixels (``Architecture.batch_layers = 0``).
Source: paper Table 7, row "VITA". Shapes: B images, T views, Q queries, C channels.
"""

from torch import Tensor, nn

from .layers import AttentionBlock, FeedForwardBlock
from .query_decoder import DecoderLayer


class TokenEncoderLayer(nn.Module):
    """Self-attention among the tokens of all views, feed-forward."""

    def __init__(self, channels: int, *, heads: int, feedforward: int) -> None:
        super().__init__()
        self.self_attention = AttentionBlock(channels, heads=heads)
        self.feedforward = FeedForwardBlock(channels, hidden=feedforward)

    def forward(self, tokens: Tensor, *, token_code: Tensor) -> Tensor:
        """Tokens [B,TQ,C] to the same; ``token_code`` [TQ,C] tells them apart."""
        return self.feedforward(self.self_attention(tokens, tokens + token_code, tokens, query_code=token_code))


class ObjectTokenDecoder(nn.Module):
    """Encoder layers over the object tokens of all views, then decoder layers from learned queries.

    Args:
        channels: width C.
        num_queries: Q.
        layers: encoder layers, and as many decoder layers.
        heads: attention heads.
        feedforward: hidden width of the feed-forward blocks.
    """

    def __init__(
        self,
        channels: int = 256,
        *,
        num_queries: int = 100,
        layers: int = 3,
        heads: int = 8,
        feedforward: int = 2048,
    ) -> None:
        super().__init__()
        self.queries = nn.Embedding(num_queries, channels)
        numbers = {"heads": heads, "feedforward": feedforward}
        self.encoder = nn.ModuleList(TokenEncoderLayer(channels, **numbers) for _ in range(layers))
        self.layers = nn.ModuleList(DecoderLayer(channels, **numbers) for _ in range(layers))

    def forward(self, per_view: Tensor, *, query_code: Tensor) -> Tensor:
        """Image-level states [B,T,Q,C] to batch-level states [B,Q,C]; ``query_code`` [Q,C]."""
        tokens = per_view.flatten(1, 2)  # [B,T,Q,C] -> [B,TQ,C]
        token_code = query_code.repeat(per_view.shape[1], 1)  # [Q,C] -> [TQ,C]
        for layer in self.encoder:
            tokens = layer(tokens, token_code=token_code)
        state = self.queries.weight.expand(len(per_view), -1, -1)
        for layer in self.layers:
            state = layer(state, tokens + token_code, tokens, query_code=query_code)
        return state
