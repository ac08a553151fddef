"""Ground truth and predictions in memory in the terms in which panoptic measures take them."""

import numpy as np

from cropformer import Entities, rle
from entitytransfer.adapter import Truth
from entitytransfer.segment_map import SegmentMap, Segments


def map_entities(entities: Entities, *, source: str, track_ids: np.ndarray | None = None) -> SegmentMap:
    """One frame of predictions; of entities that overlap the one with the better score keeps the pixels.

    Args:
        entities: with labels 0..K-1.
        source: what an error should call them.
        track_ids: positive integers [N] that stay the same through a clip; numbers from 1 if left out.
    """
    numbers = np.arange(1, len(entities.rles) + 1) if track_ids is None else np.asarray(track_ids)
    id_map = entities.id_map()
    visible = np.unique(id_map[id_map > 0]) - 1
    segments = Segments(
        ids=numbers[visible].astype(np.int64),
        classes=np.asarray(entities.labels)[visible].astype(np.int64),
        areas=np.zeros(visible.size),
        is_crowd=np.zeros(visible.size, dtype=bool),
    )
    return SegmentMap(np.concatenate([[0], numbers])[id_map], segments, source)


def map_truth(truth: Truth, size_hw: tuple[int, int], *, source: str) -> SegmentMap:
    """One frame of ground truth; pixels in no region are VOID, and every region is listed, visible or not.

    Args:
        truth: regions that do not overlap.
        size_hw: height and width in pixels.
        source: what an error should call it.
    """
    ids = np.arange(1, len(truth.rles) + 1)
    segments = Segments(ids=ids, classes=truth.labels, areas=truth.areas, is_crowd=truth.is_crowd)
    return SegmentMap(rle.decode_id_map(truth.rles, size_hw), segments, source)
