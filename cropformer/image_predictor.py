"""Images in, whatever is made of their queries out: a CropFormer that makes its own views, group by group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from .architecture import Architecture, TestSettings
from .clip_predictor import ClipPredictor
from .images import ImageLike
from .memory import parse_memory
from .model import CropFormer
from .pixel_decoder import PixelDecoder
from .precision import Precision, check_precision, in_precision
from .queries import Queries
from .query_decoder import QueryDecoder
from .views import Views, batch_views, check_crop_ratio, make_views

R = TypeVar("R")


class ImagePredictor(CropFormer):
    """CropFormer that knows how it is tested, and hands its answers on.

    Args:
        backbone: see ``CropFormer``.
        pixel_decoder: likewise.
        query_decoder: likewise.
        association: likewise.
        architecture: the numbers it was built from, saved with its weights.
        settings: test size, crops and score threshold that come with the weights; arguments override them.
        classes: what its labels mean, saved with its weights: plain lists by name, "names" among them. None if unknown.
        fine_level: see ``CropFormer``.

    Raises:
        InputError: if the numbers do not fit together.
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
        classes: dict[str, list[Any]] | None = None,
        fine_level: nn.Module | None = None,
    ) -> None:
        parts = (backbone, pixel_decoder, query_decoder, association)
        super().__init__(*parts, fine_level=fine_level, batch_layers=architecture.batch_layers)
        check_crop_ratio(settings.crop_ratio)
        self.architecture = architecture
        self.settings = settings
        self.classes = classes

    def predict(
        self,
        images: Sequence[ImageLike],
        predict: Callable[[Queries, Views], list[R]],
        *,
        crops: int | None = None,
        short_side: int | None = None,
        max_side: int | None = None,
        crop_ratio: float | None = None,
        max_memory: str | int | None = None,
        precision: Precision = "fp32",
    ) -> list[R]:
        """What ``predict`` makes of the queries and views of each image; other arguments as in ``segment``.

        Images whose views have one size share a batch: the result for an image never depends on its neighbours.

        Args:
            images: any number of them.
            predict: queries and views of B images to B results, such as ``fuse``. What it needs itself is not
                counted in ``max_memory``.
            crops: see ``segment``, as the rest.
            short_side: likewise.
            max_side: likewise.
            crop_ratio: likewise.
            max_memory: bound on what the network needs beside the weights.
            precision: likewise.

        Returns:
            One result for each image, in order.

        Raises:
            InputError: as ``segment`` does.
        """
        s = self.settings
        bound = parse_memory(max_memory)
        check_precision(precision)
        sides = {"short_side": short_side or s.short_side, "max_side": max_side or s.max_side}
        crops = s.crops if crops is None else crops
        ratio = s.crop_ratio if crop_ratio is None else crop_ratio
        views = [make_views(image, crops=crops, crop_ratio=ratio, **sides) for image in images]
        results: dict[int, R] = {}
        for chosen in self._groups(views, bound):
            joined = batch_views([views[i] for i in chosen])
            found = self._predict_views(joined, predict, max_memory=bound, precision=precision)
            results.update(zip(chosen, found, strict=True))
        return [results[i] for i in range(len(views))]

    def predict_clip(
        self,
        frames: Sequence[np.ndarray],
        predict: Callable[[Queries, Views], R],
        *,
        crops: int = 0,
        short_side: int | None = None,
        max_side: int | None = None,
        crop_ratio: float | None = None,
        max_memory: str | int | None = None,
        precision: Precision = "fp32",
    ) -> R:
        """What ``predict`` makes of the queries that a few frames, uint8 RGB [H,W,3] each, share.

        Arguments, result and errors as in ``ClipPredictor.predict`` and ``segment``; crops are those of each frame.
        """
        predictor = self.clip_predictor(
            crops=crops,
            short_side=short_side,
            max_side=max_side,
            crop_ratio=crop_ratio,
            max_memory=max_memory,
            precision=precision,
        )
        return predictor.predict(frames, predict)

    def clip_predictor(
        self,
        *,
        overlap: int = 0,
        crops: int = 0,
        short_side: int | None = None,
        max_side: int | None = None,
        crop_ratio: float | None = None,
        max_memory: str | int | None = None,
        precision: Precision = "fp32",
    ) -> ClipPredictor:
        """What predicts for window after window of one clip, of which two share ``overlap`` frames at most.

        Raises:
            InputError: if the bound or the precision make no sense.
        """
        s = self.settings
        check_precision(precision)
        return ClipPredictor(
            self,
            overlap=overlap,
            crops=crops,
            short_side=short_side or s.short_side,
            max_side=max_side or s.max_side,
            crop_ratio=s.crop_ratio if crop_ratio is None else crop_ratio,
            max_memory=parse_memory(max_memory),
            precision=precision,
        )

    def _groups(self, views: Sequence[Views], bound: int | None) -> Iterator[list[int]]:
        """Indices of images that go through the network together: of one canvas, and as many as the bound allows."""
        for canvas in dict.fromkeys(item.pixels.shape for item in views):
            same = [i for i, item in enumerate(views) if item.pixels.shape == canvas]
            size = self.network_memory(canvas[-2:], views=canvas[-4]).images_at_once(bound, images=len(same))
            yield from (same[i : i + size] for i in range(0, len(same), size))

    @torch.inference_mode()
    def _predict_views(
        self,
        views: Views,
        predict: Callable[[Queries, Views], list[R]],
        *,
        max_memory: int | None = None,
        precision: Precision = "fp32",
    ) -> list[R]:
        """What ``predict`` makes of views that go through the network together."""
        views = views.to(self.device)
        images, count, _, *canvas_hw = views.pixels.shape  # [B,T,3,H,W]
        at_once = self.network_memory(canvas_hw, views=count).views_at_once(max_memory, images=images)
        with in_precision(precision, self.device):
            queries = self(views, views_at_once=at_once)
        return predict(queries, views)
