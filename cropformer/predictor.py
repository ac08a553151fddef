"""Image in, entities out: a CropFormer that makes its own views and fuses its own queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from .architecture import Architecture, TestSettings
from .entities import Entities
from .fusion import Compat, fuse
from .images import ImageLike
from .model import CropFormer
from .pixel_decoder import PixelDecoder
from .query_decoder import QueryDecoder
from .views import Views, batch_views, make_clip_views, make_views


class EntitySegmenter(CropFormer):
    """CropFormer with the five-line user interface.

    Args:
        backbone: see ``CropFormer``.
        pixel_decoder: likewise.
        query_decoder: likewise.
        association: likewise.
        architecture: the numbers it was built from, saved with its weights.
        settings: test size, crops and score threshold that come with the weights; arguments override them.
    """

    def __init__(
        self,
        backbone: nn.Module,
        pixel_decoder: PixelDecoder,
        query_decoder: QueryDecoder,
        association: nn.Module | None,
        *,
        architecture: Architecture,
        settings: TestSettings,
    ) -> None:
        super().__init__(backbone, pixel_decoder, query_decoder, association, batch_layers=architecture.batch_layers)
        self.architecture = architecture
        self.settings = settings

    def segment(
        self,
        image: ImageLike,
        *,
        crops: int | None = None,
        short_side: int | None = None,
        max_side: int | None = None,
        min_score: float | None = None,
        compat: Compat = None,
        overlap: bool = False,
    ) -> Entities:
        """Every entity of one image.

        Args:
            image: path, PIL image, uint8 RGB array [H,W,3] or uint8 tensor [3,H,W].
            crops: 0 for the full view alone, 4 for the paper's corner crops.
            short_side: length of the short side of every view.
            max_side: bound on the long side.
            min_score: entities below it are left out.
            compat: "official" for the published pipeline's choices, see ``fuse``.
            overlap: let masks overlap, for recall; otherwise each pixel belongs to one entity at most.

        Returns:
            Entities, best score first.

        Raises:
            InputError: if the image cannot be read or is not RGB.
        """
        return self.segment_batch(
            [image],
            crops=crops,
            short_side=short_side,
            max_side=max_side,
            min_score=min_score,
            compat=compat,
            overlap=overlap,
        )[0]

    def segment_batch(
        self,
        images: Sequence[ImageLike],
        *,
        crops: int | None = None,
        short_side: int | None = None,
        max_side: int | None = None,
        min_score: float | None = None,
        compat: Compat = None,
        overlap: bool = False,
    ) -> list[Entities]:
        """Every entity of each image; arguments as in ``segment``.

        Images whose views have one size share a batch: the result for an image never depends on its neighbours.
        """
        s = self.settings
        views = [
            make_views(
                image,
                crops=s.crops if crops is None else crops,
                short_side=short_side or s.short_side,
                max_side=max_side or s.max_side,
            )
            for image in images
        ]
        results: list[Entities | None] = [None] * len(views)
        for canvas in dict.fromkeys(item.pixels.shape for item in views):
            chosen = [i for i, item in enumerate(views) if item.pixels.shape == canvas]
            joined = batch_views([views[i] for i in chosen])
            found = self._infer(joined, min_score=min_score, compat=compat, overlap=overlap)
            for i, entities in zip(chosen, found):
                results[i] = entities
        return [entities for entities in results if entities is not None]

    def segment_clip(
        self,
        frames: Sequence[np.ndarray],
        *,
        short_side: int | None = None,
        max_side: int | None = None,
        min_score: float | None = None,
    ) -> list[Entities]:
        """Every entity of a few consecutive frames, uint8 RGB [H,W,3] each, with queries shared by the frames.

        Returns:
            One result for each frame; equal ``query_ids`` mean the same entity.
        """
        s = self.settings
        sides = {"short_side": short_side or s.short_side, "max_side": max_side or s.max_side}
        return self._infer(make_clip_views(frames, **sides), min_score=min_score)

    @torch.inference_mode()
    def _infer(
        self, views: Views, *, min_score: float | None, compat: Compat = None, overlap: bool = False
    ) -> list[Entities]:
        views = views.to(self.device)
        min_score = self.settings.min_score if min_score is None else min_score
        return fuse(self(views), views, min_score=0.0 if compat else min_score, compat=compat, overlap=overlap)
