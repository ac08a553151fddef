"""AP and AR of tracks, exactly as YTVOSeval computes them, with all pairs of a frame intersected in one call.

D detections · G ground truths · N tracks · F frames · K classes · V videos · T, R, A, M as in `matching`.
"""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from entitytransfer.evaluators.detection_summary import AREAS, IOU_THRESHOLDS, MAX_DETS, summarize
from entitytransfer.evaluators.matching import RECALL_LEVELS, Matches, accumulate, match
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
        self._videos: list[dict[int, Matches]] = []

    def update(self, detections: Tracks, truths: Tracks) -> None:
        """Match one video. Videos must come in the order of their ids, which breaks ties of scores."""
        if self._category_ids is None:
            detections, truths = (
                tracks.select(np.argsort(tracks.category_ids, kind="stable")) for tracks in (detections, truths)
            )
            self._videos.append(self._match_class(0, detections, truths))
            return
        matches: dict[int, Matches] = {}
        for index, category_id in enumerate(self._category_ids):
            of_class = (one.select(np.flatnonzero(one.category_ids == category_id)) for one in (detections, truths))
            matches |= self._match_class(index, *of_class)
        self._videos.append(matches)

    def accumulate(self, videos: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Precision [T,R,K,A,M] and recall [T,K,A,M], -1 where a class has no ground truth.

        Args:
            videos: indices of the videos to count, ascending, once for every time they are named; all if left out.
        """
        chosen = self._videos if videos is None else [self._videos[index] for index in videos.tolist()]
        num_classes = 1 if self._category_ids is None else len(self._category_ids)
        shape = len(self._iou_thresholds), num_classes, len(AREAS), len(self._max_dets)
        precision = np.full((shape[0], len(RECALL_LEVELS), *shape[1:]), -1.0)
        recall = np.full(shape, -1.0)
        for index in range(num_classes):
            matches = [video[index] for video in chosen if index in video]
            if matches:
                precision[:, :, index], recall[:, index] = accumulate(matches, self._max_dets)
        return precision, recall

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
            track_ious(detections, truths),
            detections.scores,
            detection_areas=detections.mean_areas,
            truth_areas=truths.mean_areas,
            is_crowd=truths.is_crowd,
            area_ranges=AREA_RANGES,
            iou_thresholds=self._iou_thresholds,
        )
        return {index: matches}


def track_ious(detections: Tracks, truths: Tracks) -> np.ndarray:
    """Pixels in both over pixels in either, summed over frames, float64 [D,G]; crowds have no rule of their own.

    pycocotools gives IoUs of a frame's pairs, not their intersections; from the IoU and the areas these follow as
    whole numbers, so nothing is lost.
    """
    intersections = np.zeros((len(detections), len(truths)))
    if not intersections.size:
        return intersections
    for frame in range(truths.areas.shape[1]):
        rows, columns = (np.flatnonzero(tracks.areas[:, frame]) for tracks in (detections, truths))
        if rows.size and columns.size:
            ours = [detections.masks[row][frame] for row in rows.tolist()]
            theirs = [truths.masks[column][frame] for column in columns.tolist()]
            ious = coco_mask.iou(ours, theirs, [0] * columns.size)
            areas = detections.areas[rows, frame][:, None] + truths.areas[columns, frame]
            intersections[np.ix_(rows, columns)] += np.rint(ious * areas / (1 + ious))
    unions = detections.areas.sum(axis=1)[:, None] + truths.areas.sum(axis=1) - intersections
    return np.divide(intersections, unions, out=np.zeros_like(intersections), where=unions > 0)
