"""Association module: image-level queries of all views become batch-level queries, one for each entity.

Source: paper equation 4 and Figure 5. Shapes: B images, T views, Q queries, C channels.
"""

from torch import Tensor, nn

from .layers import AttentionBlock, FeedForwardBlock


class Association(nn.Module):
    """Cross-attention from the full view's queries to the queries of all views, self-attention, feed-forward.

    Args:
        channels: width C.
        heads: attention heads.
        feedforward: hidden width of the feed-forward block.
        use_self_attention: Table 9(c) of the paper drops it.
        use_feedforward: likewise.
    """

    def __init__(
        self,
        channels: int = 256,
        *,
        heads: int = 8,
        feedforward: int = 2048,
        use_self_attention: bool = True,
        use_feedforward: bool = True,
    ) -> None:
        super().__init__()
        self.cross_attention = AttentionBlock(channels, heads=heads)
        self.self_attention = AttentionBlock(channels, heads=heads) if use_self_attention else None
        self.feedforward = FeedForwardBlock(channels, hidden=feedforward) if use_feedforward else None

    def forward(self, per_view: Tensor, *, query_code: Tensor) -> Tensor:
        """Image-level states [B,T,Q,C] to batch-level states [B,Q,C]; ``query_code`` [Q,C]."""
        keys = (per_view + query_code).flatten(1, 2)  # [B,T,Q,C] -> [B,TQ,C]
        values = per_view.flatten(1, 2)  # likewise
        state = self.cross_attention(per_view[:, 0], keys, values, query_code=query_code)
        if self.self_attention is not None:
            state = self.self_attention(state, state, state)  # without query code, as published
        return state if self.feedforward is None else self.feedforward(state)
