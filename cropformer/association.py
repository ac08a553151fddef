"""Association module: image-level queries of all views become batch-level queries, one for each entity.

Source: paper equation 4 and Figure 5. Shapes: B images, T views, Q queries, C channels.
"""

from dataclasses import replace

from torch import Tensor, nn

from .architecture import Architecture, AssociationKind
from .errors import InputError
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


def with_association(
    architecture: Architecture, kind: AssociationKind, *, batch_layers: int | None = None
) -> Architecture:
    """The same model with another association (Table 9c) or another thing in its place (Table 7).

    Feed-forward blocks are as wide as the query decoder's; an object token decoder has three layers, as in VITA.

    Args:
        architecture: the model.
        kind: see ``Architecture``; "none" makes a plain Mask2Former.
        batch_layers: decoder layers that batch-level queries go through; None for all, 0 for VITA.

    Raises:
        InputError: if there is no such kind, or its queries would be predicted from without having seen the image.
    """
    if kind == "learned" and batch_layers == 0:
        raise InputError("learned queries see an image in the decoder layers only; set batch_layers to 1 or more")
    has_feedforward = kind.endswith("feedforward") or kind == "object_tokens"
    return replace(
        architecture,
        association=kind,
        association_feedforward=architecture.decoder_feedforward if has_feedforward else 0,
        association_layers=3 if kind == "object_tokens" else 1,
        batch_layers=batch_layers,
    )
