"""Video instance segmentation: track AP and AR, exactly as YTVOSeval of YouTube-VIS computes them."""

from collections.abc import Sequence
from pathlib import Path

from entitytransfer.evaluation.bootstrap import percentile_intervals
from entitytransfer.evaluators.detection_summary import IOU_THRESHOLDS, MAX_DETS, check_limits
from entitytransfer.evaluators.video_ap import VideoAP
from entitytransfer.readers.image_list import read_image_list
from entitytransfer.readers.ytvis_json import (
    YtvisFile,
    annotated_tracks,
    predicted_tracks,
    read_ytvis_results,
    read_ytvis_truth,
)
from entitytransfer.readers.zipped_json import unzipped
from entitytransfer.scorecard import Score


def score(
    *,
    ground_truth: Path,
    predictions: Path,
    class_agnostic: bool = False,
    max_dets: Sequence[int] = MAX_DETS,
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    top_k: int | None = None,
    image_list: Path | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Score:
    """Score a result file of YouTube-VIS or UVO.

    Args:
        ground_truth: YouTube-VIS JSON.
        predictions: JSON list of video_id, category_id, score and segmentations, one for each frame or null.
        class_agnostic: every track counts as the same class (``useCats=0``); then category ids do not matter.
        max_dets: predictions per video and class, ascending.
        iou_thresholds: ascending.
        top_k: predictions per video, of all classes together; None = all.
        image_list: text file with the ids of the videos that count; None = all.
        bootstrap: resamplings of the videos for confidence intervals.
        seed: of the resampling.

    Raises:
        InputError: a file or an option that cannot be scored.
    """
    check_limits(max_dets, iou_thresholds, top_k)
    truth = read_ytvis_truth(ground_truth)
    numbers = {video_id: number for number, video_id in enumerate(truth.videos, start=1)}
    videos = read_image_list(image_list, numbers)
    classes = None if class_agnostic else list(truth.category_numbers.values())
    metric = VideoAP(classes, max_dets=max_dets, iou_thresholds=iou_thresholds)
    with unzipped(predictions) as file:
        results = read_ytvis_results(file, truth)
        for video_id, video in truth.videos.items():
            annotated = annotated_tracks(video, truth.category_numbers)
            predicted = predicted_tracks(results.videos[video_id], truth.category_numbers, any_category=class_agnostic)
            metric.update(predicted.keep_best(top_k), annotated)
    return Score(
        metrics=metric.compute(videos),
        protocol={
            "task": "ytvis",
            "classes": "one" if class_agnostic else f"{len(truth.category_numbers)}, averaged",
            "videos": int(videos.size),
            "tracks": _count(truth),
            "predictions": _count(results),
            "max_dets": list(max_dets),
            "iou_thresholds": [round(one, 4) for one in iou_thresholds],
            "top_k": top_k,
            "area ranges": "small to 128^2, medium to 256^2 pixels, mean over frames",
            "evaluator": "own, as YTVOSeval (youtubevos/cocoapi)",
        },
        intervals=percentile_intervals(metric.compute, videos, draws=bootstrap, seed=seed),
    )


def _count(file: YtvisFile) -> int:
    return sum(len(video) for video in file.videos.values())
