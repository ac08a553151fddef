"""Learned batch-level queries: what video Mask2Former has in place of an association module.

Source: paper Table 7, row "V-Mask2Former". Shapes: B images, T views, Q queries, C channels.
"""

from torch import Tensor, nn


class LearnedQueries(nn.Module):
    """Batch-level queries that know nothing of the image-level ones.

    Args:
        channels: width C.
        num_queries: Q.
    """

    def __init__(self, channels: int = 256, *, num_queries: int = 100) -> None:
        super().__init__()
        self.queries = nn.Embedding(num_queries, channels)

    def forward(self, per_view: Tensor, *, query_code: Tensor) -> Tensor:
        """Image-level states [B,T,Q,C] to batch-level states [B,Q,C], the same for every image."""
        return self.queries.weight.expand(len(per_view), -1, -1)
