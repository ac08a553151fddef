"""Clips in, window by window: what the network works out for a frame alone is kept for the windows that share it.

Shapes: B images (1 here), T views, F frames, Q queries, C channels, h and w the grid of masks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from .clip_views import join_frames, last_frames, make_clip_views
from .errors import InputError
from .model import CropFormer
from .pixel_decoder import PixelFeatures, join_features
from .precision import Precision, in_precision
from .queries import Queries, join_queries
from .views import Views

R = TypeVar("R")


@dataclass(frozen=True)
class _Seen:
    """Frames with all that depends on each of them alone: T views, their features, and T x Q image-level queries."""

    views: Views
    features: PixelFeatures
    per_view: Queries

    def last(self, frames: int) -> "_Seen":
        """The last ``frames`` frames, in memory of their own: the rest can be freed."""
        views = last_frames(self.views, frames)
        start = len(self.views.frames) - len(views.frames)
        features = self.features[start : len(self.features)].clone()
        return _Seen(views, features, _alone(self.per_view, features, start=start))


class ClipPredictor:
    """Predicts for window after window of one clip; `ImagePredictor.clip_predictor` makes one.

    A frame that two windows share goes through backbone, pixel decoder and image-level decoder once. On a CPU the
    result is the same as if it went through twice, on an accelerator up to rounding.

    Args:
        model: the network.
        overlap: how many frames at the end of a window the next one may begin with.
        crops: views of each frame beside the full one, see ``view_boxes``.
        short_side: length of the short side of every view.
        max_side: bound on the long side.
        crop_ratio: side of a crop over the side of the frame.
        max_memory: bound in bytes on what the network needs beside the weights.
        precision: see ``EntitySegmenter.segment``.
    """

    def __init__(
        self,
        model: CropFormer,
        *,
        overlap: int,
        crops: int,
        short_side: int,
        max_side: int,
        crop_ratio: float,
        max_memory: int | None,
        precision: Precision,
    ) -> None:
        self._model = model
        self._overlap = overlap
        self._layout = {"crops": crops, "short_side": short_side, "max_side": max_side, "crop_ratio": crop_ratio}
        self._max_memory = max_memory
        self._precision = precision
        self._kept: _Seen | None = None

    def network_bytes(self, size_hw: tuple[int, int], *, frames: int) -> int:
        """About what the network needs beside its weights for a window of ``frames`` frames of this size."""
        views = make_clip_views([np.zeros((*size_hw, 3), dtype=np.uint8)], **self._layout)
        memory = self._model.network_memory(views.pixels.shape[-2:], views=frames * len(views.frames))
        return memory.shared + memory.encoding

    @torch.inference_mode()
    def predict(self, frames: Sequence[np.ndarray], predict: Callable[[Queries, Views], R], *, known: int = 0) -> R:
        """What ``predict`` makes of the queries of one window, which its frames share.

        Args:
            frames: F frames, uint8 RGB [H,W,3] of one size.
            predict: queries and views of one clip to anything, such as ``fuse`` to a list of F results. What it
                needs itself is not counted in ``max_memory``.
            known: how many of the first frames are the last ones of the call before; at most ``overlap``.

        Raises:
            InputError: the frames differ in size, or the model cannot see several views together.
        """
        new = make_clip_views(frames[known:], **self._layout)
        count = len(frames) * len(new.frames) // (len(frames) - known)
        if count > 1 and self._model.association is None:
            raise InputError("a model without an association module takes one view at a time; use window=1 and crops=0")
        queries, views = self._look(new, known=known, count=count)
        return predict(queries, views)

    def _look(self, new: Views, *, known: int, count: int) -> tuple[Queries, Views]:
        """Queries and views of a window of ``count`` = T views, the last of which are ``new``."""
        model = self._model
        memory = model.network_memory(new.pixels.shape[-2:], views=count)
        memory.images_at_once(self._max_memory, images=1)
        new = new.to(model.device)
        at_once = memory.views_at_once(self._max_memory, images=1)
        with in_precision(self._precision, model.device):
            features = model.encode(new.pixels[0], views_at_once=at_once)
            seen = _Seen(new, features, model.decode_each(features))
            if known:
                seen = _join(self._kept.last(known), seen)
            queries = seen.per_view
            if count > 1:
                queries = model.decode_together(seen.features, seen.per_view, views=count)
        self._kept = seen.last(min(self._overlap, seen.views.frames[-1] + 1)) if self._overlap else None
        return queries, seen.views


def _join(earlier: _Seen, later: _Seen) -> _Seen:
    features = join_features([earlier.features, later.features])
    singles = [replace(part.per_view, intermediate=()) for part in (earlier, later)]
    per_view = join_queries(singles, features.finest[:, None])  # [T,C,h,w] -> [T,1,C,h,w]
    return _Seen(join_frames(earlier.views, later.views), features, per_view)


def _alone(per_view: Queries, features: PixelFeatures, *, start: int) -> Queries:
    """The last of the prediction set's views, whose features are ``features``; without the sets before it."""
    names = ("embeddings", "class_logits", "mask_embeddings")
    return Queries(*(getattr(per_view, name)[start:].clone() for name in names), features.finest[:, None])
