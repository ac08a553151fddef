"""The peers of the scoring benchmark: COCOeval of pycocotools, and its descent for tracks, YTVOSeval.

YTVOSeval is not on a package index; what it adds to COCOeval is written here after its definition: areas are means over
frames, and the IoU of two tracks comes from merging their RLEs pair by pair and frame by frame.
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Record = dict
TRACK_AREAS = [[0, 1e5**2], [0, 128**2], [128**2, 256**2], [256**2, 1e5**2]]


def official_entity_ap(ground_truth: Path, predictions: Path) -> list[float]:
    """The twelve numbers of class-agnostic mask AP."""
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(ground_truth))
        evaluation = COCOeval(truth, truth.loadRes(str(predictions)), "segm")
        evaluation.params.useCats = 0
        return run(evaluation)


def official_track_ap(ground_truth: Path, predictions: Path) -> list[float]:
    """The twelve numbers of class-agnostic track AP."""
    content = json.loads(ground_truth.read_text())
    for one in content["annotations"]:
        one["area"] = mean_area(one["areas"])
    results = json.loads(predictions.read_text())
    for number, one in enumerate(results, start=1):
        areas = [None if rle is None else int(coco_mask.area(rle)) for rle in one["segmentations"]]
        one |= {"id": number, "iscrowd": 0, "area": mean_area(areas)}
    with redirect_stdout(io.StringIO()):
        evaluation = TrackEval(as_coco(content, content["annotations"]), as_coco(content, results), "bbox")
        evaluation.params.useCats = 0
        evaluation.params.areaRng = TRACK_AREAS
        return run(evaluation)


class TrackEval(COCOeval):
    """COCOeval whose images are videos."""

    def computeIoU(self, imgId: int, catId: int) -> np.ndarray:
        """The IoU of the best predicted and all annotated tracks of a video, [D,G]."""
        truths, detections = (
            [one for c in self.params.catIds for one in some[imgId, c]] for some in (self._gts, self._dts)
        )
        order = np.argsort([-one["score"] for one in detections], kind="mergesort")[: self.params.maxDets[-1]]
        return np.array(
            [[track_iou(detections[i]["segmentations"], one["segmentations"]) for one in truths] for i in order]
        )


def track_iou(detection: list[Record | None], truth: list[Record | None]) -> float:
    """Pixels in both over pixels in either, summed over frames."""
    intersection = union = 0
    for ours, theirs in zip(detection, truth):
        if ours is not None and theirs is not None:
            intersection += coco_mask.area(coco_mask.merge([ours, theirs], True))
            union += coco_mask.area(coco_mask.merge([ours, theirs], False))
        elif ours is not None or theirs is not None:
            union += coco_mask.area(ours or theirs)
    return float(intersection / union) if union else 0.0


def mean_area(areas: list[int | None]) -> float:
    """Mean over the frames in which a track has pixels."""
    seen = [area for area in areas if area]
    return float(np.mean(seen)) if seen else 0.0


def as_coco(content: Record, annotations: list[Record]) -> COCO:
    """An index of tracks in which videos take the place of images."""
    coco = COCO()
    tracks = [one | {"image_id": one["video_id"], "bbox": [0, 0, 0, 0]} for one in annotations]
    coco.dataset = {"images": content["videos"], "categories": content["categories"], "annotations": tracks}
    coco.createIndex()
    return coco


def run(evaluation: COCOeval) -> list[float]:
    """Evaluate, accumulate, summarise."""
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats.tolist()
