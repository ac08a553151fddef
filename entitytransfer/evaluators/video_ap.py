"""AP and AR of tracks, exactly as YTVOSeval computes them; only pairs that could match are intersected.

D detections · G ground truths · N tracks · F frames · K classes · V videos · T, R, A, M as in `matching`.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from entitytransfer.evaluators.detection_summary import AREAS, IOU_THRESHOLDS, MAX_DETS, summarize
from entitytransfer.evaluators.kept_matches import KeptMatches
from entitytransfer.evaluators.matching import Matches, match
from entitytransfer.readers.ytvis_json import Tracks

# Mean pixels per frame, both ends included; not COCO's 32 and 96 (YTVOSeval's Params).
AREA_RANGES = np.array([[0, 1e5**2], [0, 128**2], [128**2, 256**2], [256**2, 1e5**2]])


class VideoAP:
    """Collects video after video; their masks are let go at once, only matches are kept.

    Args:
        category_ids: the classes, ascending; None = every track counts as the same class, and ties of scores are
            broken by the order of the category ids (``useCats=0``).
        max_dets: predictions per video and class, ascending.
        iou_thresholds: ascending.
    """

    def __init__(
        self,
        category_ids: Sequence[int] | None,
        *,
        max_dets: Sequence[int] = MAX_DETS,
        iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    ) -> None:
        self._category_ids = category_ids
        self._max_dets = tuple(max_dets)
        self._iou_thresholds = np.asarray(iou_thresholds)
        self._kept = KeptMatches(
            1 if category_ids is None else len(category_ids),
            num_areas=len(AREAS),
            num_thresholds=len(self._iou_thresholds),
            max_dets=self._max_dets,
        )

    def update(self, detections: Tracks, truths: Tracks) -> None:
        """Match one video. Videos must come in the order of their ids, which breaks ties of scores."""
        if self._category_ids is None:
            detections, truths = (
                tracks.select(np.argsort(tracks.category_ids, kind="stable")) for tracks in (detections, truths)
            )
            self._kept.add(self._match_class(0, detections, truths))
            return
        matches: dict[int, Matches] = {}
        for index, category_id in enumerate(self._category_ids):
            of_class = (one.select(np.flatnonzero(one.category_ids == category_id)) for one in (detections, truths))
            matches |= self._match_class(index, *of_class)
        self._kept.add(matches)

    def extend(self, others: Iterable["VideoAP"]) -> None:
        """Keep the videos of others too, which have the same classes and limits."""
        self._kept.extend(other._kept for other in others)

    def accumulate(self, videos: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Precision [T,R,K,A,M] and recall [T,K,A,M], -1 where a class has no ground truth.

        Args:
            videos: indices of the videos to count, ascending, once for every time they are named; all if left out.
        """
        return self._kept.accumulate(videos)

    def compute(self, videos: np.ndarray | None = None) -> dict[str, float]:
        """AP, AP50, ...: see `summarize`, and `accumulate` for the argument."""
        precision, recall = self.accumulate(videos)
        return summarize(precision, recall, iou_thresholds=self._iou_thresholds, max_dets=self._max_dets)

    def _match_class(self, index: int, detections: Tracks, truths: Tracks) -> dict[int, Matches]:
        """The matches of class number ``index``, nothing if the video does not have it."""
        if not len(detections) and not len(truths):
            return {}
        detections = detections.best(self._max_dets[-1])
        matches = match(
            track_ious(detections, truths, at_least=self._iou_thresholds[0]),
            detections.scores,
            detection_areas=detections.mean_areas,
            truth_areas=truths.mean_areas,
            is_crowd=truths.is_crowd,
            area_ranges=AREA_RANGES,
            iou_thresholds=self._iou_thresholds,
        )
        return {index: matches}


def track_ious(detections: Tracks, truths: Tracks, *, at_least: float = 0.0) -> np.ndarray:
    """Pixels in both over pixels in either, summed over frames, float64 [D,G]; crowds have no rule of their own.

    Args:
        detections: D tracks.
        truths: G tracks of the same frames.
        at_least: pairs whose areas and boxes show that their IoU is lower may be given a lower one than they have.
    """
    totals = detections.areas.sum(axis=1)[:, None] + truths.areas.sum(axis=1)  # [D,G]
    intersections = np.zeros(totals.shape)
    for column in range(len(truths)):
        bounds = _most_in_both(detections, truths, column)
        highest = bounds / np.maximum(totals[:, column] - bounds, 1)  # divided as IoUs are, so rounding drops no pair
        rows = np.flatnonzero((bounds > 0) & (highest >= at_least))
        intersections[rows, column] = _in_both(detections, rows, truths, column)
    unions = totals - intersections
    return np.divide(intersections, unions, out=np.zeros_like(intersections), where=unions > 0)


def _most_in_both(detections: Tracks, truths: Tracks, column: int) -> np.ndarray:
    """Pixels that each detection and one ground truth share at most, by their areas and boxes, int64 [D]."""
    boxes = truths.boxes_xyxy[column]  # [F,4]
    sides = np.minimum(detections.boxes_xyxy[..., 2:], boxes[:, 2:])  # [D,F,2]
    sides -= np.maximum(detections.boxes_xyxy[..., :2], boxes[:, :2])
    shared = np.maximum(sides, 0).prod(axis=-1)
    return np.minimum(np.minimum(detections.areas, truths.areas[column]), shared).sum(axis=1)


def _in_both(detections: Tracks, rows: np.ndarray, truths: Tracks, column: int) -> np.ndarray:
    """Pixels that some detections and one ground truth share, float64 [rows].

    pycocotools gives IoUs, not intersections; from the IoU and the areas these follow as whole numbers, so nothing is
    lost.
    """
    chosen = [detections.masks[row] for row in rows.tolist()]
    ious = np.zeros((len(chosen), truths.areas.shape[1]))  # [rows,F]
    for frame in np.flatnonzero(truths.areas[column]).tolist() if chosen else ():
        seen = [index for index, masks in enumerate(chosen) if masks[frame] is not None]
        if seen:
            ours = [chosen[index][frame] for index in seen]
            ious[seen, frame] = coco_mask.iou(ours, [truths.masks[column][frame]], [0])[:, 0]
    areas = detections.areas[rows] + truths.areas[column]
    return np.rint(ious * areas / (1 + ious)).sum(axis=1)
