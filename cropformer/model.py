"""CropFormer: Views to Queries. Reads as Figure 4 of the paper; every part is injected.

Shapes: B images, T views, Q queries, C channels, H and W pixels.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from .errors import InputError
from .memory import VIEWS_AT_ONCE, NetworkMemory
from .pixel_decoder import PixelDecoder, PixelFeatures
from .queries import Queries, join_queries
from .query_decoder import QueryDecoder
from .views import Views


class CropFormer(nn.Module):
    """Backbone, pixel decoder, query decoder and association module.

    Args:
        backbone: module from pixels [B,3,H,W] to {stride: [B,C_stride,h,w]} for strides 4, 8, 16, 32.
        pixel_decoder: backbone features to pixel features.
        query_decoder: pixel features to queries; used for each view alone and for all views together.
        association: image-level states [B,T,Q,C] to batch-level states [B,Q,C]; without it the model is a plain
            Mask2Former.
        fine_level: mask features [B,C,H/4,W/4] and pixels [B,3,H,W] to those [B,C,H/2,W/2] that masks are then made of;
            without it masks are at stride 4.
        batch_layers: layers of the query decoder that batch-level queries go through; None for all.

    Raises:
        InputError: if the query decoder has fewer than ``batch_layers`` layers.
    """

    def __init__(
        self,
        backbone: nn.Module,
        pixel_decoder: PixelDecoder,
        query_decoder: QueryDecoder,
        association: nn.Module | None,
        *,
        fine_level: nn.Module | None = None,
        batch_layers: int | None = None,
    ) -> None:
        super().__init__()
        depth = len(query_decoder.layers)
        if batch_layers is not None and not 0 <= batch_layers <= depth:
            raise InputError(
                f"batch_layers is {batch_layers}, but the query decoder has {depth} layers; use 0 to {depth}"
            )
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.query_decoder = query_decoder
        self.association = association
        self.fine_level = fine_level
        self.batch_layers = batch_layers

    def forward(self, views: Views, *, views_at_once: int = VIEWS_AT_ONCE) -> Queries:
        """Queries shared by the T views of each image; ``Queries.per_view`` holds the image-level ones.

        With T = 1 this is the plain Mask2Former path: the image-level queries are the result.
        ``views_at_once`` is that of ``encode``.
        """
        pixels = views.pixels.to(self.device)
        features = self.encode(pixels.flatten(0, 1), views_at_once=views_at_once)  # [B,T,3,H,W] -> [BT,3,H,W]
        return self.decode(features, views=pixels.shape[1])

    def encode(self, pixels: Tensor, *, views_at_once: int = VIEWS_AT_ONCE) -> PixelFeatures:
        """Pixels [N,3,H,W] to pixel features of N views.

        Without gradients ``views_at_once`` go through together, which bounds the temporaries. On a CPU that is one
        whatever was asked: more are no faster there, and so the result does not depend on the number.
        """
        if torch.is_grad_enabled():
            return self._encode(pixels)
        size = 1 if pixels.device.type == "cpu" else views_at_once
        if len(pixels) <= size:
            return self._encode(pixels).float()
        features = None
        for start in range(0, len(pixels), size):
            part = self._encode(pixels[start : start + size])
            features = part.empty(len(pixels)) if features is None else features
            features[start : start + size].copy_(part)
        return features

    def _encode(self, pixels: Tensor) -> PixelFeatures:
        features = self.pixel_decoder(self.backbone(pixels))
        if self.fine_level is None:
            return features
        return replace(features, fine_features=self.fine_level(features.mask_features, pixels))

    def decode(self, features: PixelFeatures, *, views: int) -> Queries:
        """Pixel features of B*T views to queries of B images, T = ``views``.

        Raises:
            InputError: if T > 1 and the model has no association module.
        """
        if views > 1 and self.association is None:
            raise InputError("a model without an association module takes one view per image; use crops=0")
        if self._together(features, parts=len(features) // views):
            return self._decode(features, views=views)
        images = [self._decode(features[i : i + views], views=views) for i in range(0, len(features), views)]
        return join_queries(images, features.finest.unflatten(0, (-1, views)))  # [BT,C,h,w] -> [B,T,C,h,w]

    def _together(self, features: PixelFeatures, *, parts: int) -> bool:
        """Whether the parts of a batch are decoded as one: on a CPU one by one is as fast, leaner and exact."""
        return torch.is_grad_enabled() or features.mask_features.device.type != "cpu" or parts == 1

    def _decode(self, features: PixelFeatures, *, views: int) -> Queries:
        per_view = self.decode_each(features)
        return per_view if views == 1 else self.decode_together(features, per_view, views=views)

    def decode_each(self, features: PixelFeatures) -> Queries:
        """Image-level queries: pixel features of N views to queries with N in place of B, and T = 1."""
        if self._together(features, parts=len(features)):
            return self.query_decoder(features)
        singles = [self.query_decoder(features[i : i + 1]) for i in range(len(features))]
        return join_queries(singles, features.finest[:, None])  # [N,C,h,w] -> [N,1,C,h,w]

    def decode_together(self, features: PixelFeatures, per_view: Queries, *, views: int) -> Queries:
        """Batch-level queries from the image-level ones of B*T views, T = ``views`` > 1."""
        states = per_view.embeddings.unflatten(0, (-1, views))  # [BT,Q,C] -> [B,T,Q,C]
        start = self.association(states, query_code=self.query_decoder.query_positions.weight)
        fused = self.query_decoder(features, views=views, start=start, depth=self.batch_layers)
        return replace(fused, per_view=per_view)

    def network_memory(self, canvas_hw: tuple[int, int], *, views: int) -> NetworkMemory:
        """What images of ``views`` = T views need beside the weights; an estimate."""
        numbers = {"views": views, "channels": self.pixel_decoder.channels}
        return NetworkMemory.estimate(canvas_hw, **numbers, fine_level=self.fine_level is not None)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.query_decoder.query_features.weight.device
