"""A panoptic frame: the id of the segment at every pixel, and what is listed about the segments.

H, W image pixels · N listed segments.
"""

from dataclasses import dataclass

import numpy as np

VOID = 0  # the id of pixels without a segment, and their number in a `ClipTable`


@dataclass(frozen=True)
class Segments:
    """The segments of one frame, as listed.

    Attributes:
        ids: int64 [N], positive, each once; in a clip the same segment has the same id in all frames.
        classes: int64 [N], from 0.
        areas: float64 [N]; of the ground truth as its file says, which may be more than is visible. Those of
            predictions do not matter: their pixels are counted.
        is_crowd: bool [N].
    """

    ids: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray


@dataclass(frozen=True)
class SegmentMap:
    """One frame cut into segments: integer ids [H,W] with 0 = VOID, and what `source` says about them."""

    ids: np.ndarray
    segments: Segments
    source: str
