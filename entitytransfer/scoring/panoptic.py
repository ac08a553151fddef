"""Panoptic segmentation of images: PQ, SQ and RQ of panopticapi over all classes, things and stuff."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from entitytransfer.evaluation.bootstrap import percentile_intervals
from entitytransfer.evaluators.panoptic_boundary import BOUNDARY_WIDTH, boundary_ious
from entitytransfer.evaluators.panoptic_quality import PanopticQuality
from entitytransfer.evaluators.segment_tables import ClipTable, tabulate
from entitytransfer.readers.coco_panoptic import read_panoptic_results, read_panoptic_truth
from entitytransfer.readers.panoptic_frames import PanopticFrame, PanopticSet
from entitytransfer.readers.records import Id
from entitytransfer.scorecard import Score
from entitytransfer.segment_map import SegmentMap
from entitytransfer.threads import workers_pool

Frames = Iterator[SegmentMap]
Result = TypeVar("Result")


def score(
    *,
    ground_truth: Path,
    predictions: Path,
    gt_dir: Path | None = None,
    pred_dir: Path | None = None,
    class_agnostic: bool = False,
    boundary: bool = False,
    workers: int | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Score:
    """Score COCO-panoptic results.

    Args:
        ground_truth: COCO-panoptic JSON; image ids may be text. Its areas count in unions, as in panopticapi.
        predictions: JSON with annotations.
        gt_dir: folder of the ground truth's PNGs; None = the name of the JSON without its suffix.
        pred_dir: likewise of the predictions.
        class_agnostic: every segment counts as the same class; then category ids of predictions do not matter.
        boundary: also ``boundary_PQ`` and so on, where the IoU of a pair is the smaller of mask and boundary IoU.
        workers: threads that read images; None = one for each processor. The numbers do not depend on it.
        bootstrap: resamplings of the images for confidence intervals.
        seed: of the resampling.

    Raises:
        InputError: a file or an option that cannot be scored.
    """
    truth = read_panoptic_truth(ground_truth, gt_dir or ground_truth.with_suffix(""))
    folder = pred_dir or predictions.with_suffix("")
    results = read_panoptic_results(predictions, folder, truth, any_category=class_agnostic)
    is_thing = np.array([True]) if class_agnostic else truth.classes.is_thing
    quality, boundary_quality = PanopticQuality(is_thing), PanopticQuality(is_thing)
    for table, ceilings in compare(truth, results, _with_boundaries if boundary else _alone, workers=workers):
        table = table.as_one_class() if class_agnostic else table
        quality.update(table)
        if boundary:
            boundary_quality.update(table, ceilings=ceilings)

    def measure(images: np.ndarray) -> dict[str, float]:
        of_boundaries = boundary_quality.compute(images) if boundary else {}
        return quality.compute(images) | {f"boundary_{name}": value for name, value in of_boundaries.items()}

    images = np.arange(len(truth.clips))
    return Score(
        metrics=measure(images),
        protocol={
            "task": "panoptic",
            "images": len(truth.clips),
            "class_agnostic": class_agnostic,
            "boundary": f"{BOUNDARY_WIDTH} of the diagonal" if boundary else None,
        }
        | panoptic_card(truth, results)
        | {"evaluator": "own, as panopticapi"},
        intervals=percentile_intervals(measure, images, draws=bootstrap, seed=seed),
    )


def compare(
    truth: PanopticSet, results: PanopticSet, measure: Callable[[Frames, Frames], Result], *, workers: int | None
) -> Iterator[Result]:
    """Measure the frames of every clip, in the order of the ground truth; each thread holds one frame at a time."""

    def measure_clip(clip: tuple[Id, dict[str, PanopticFrame]]) -> Result:
        clip_id, frames = clip
        predicted = results.clips[clip_id]
        return measure((frame.read() for frame in frames.values()), (predicted[name].read() for name in frames))

    with workers_pool(workers) as pool:
        yield from pool.map(measure_clip, truth.clips.items())


def _alone(truths: Frames, predictions: Frames) -> tuple[ClipTable, None]:
    return tabulate(truths, predictions), None


def _with_boundaries(truths: Frames, predictions: Frames) -> tuple[ClipTable, np.ndarray]:
    """The table of an image, and an upper bound on the IoU of its pairs."""
    truth, prediction = next(truths), next(predictions)
    return tabulate([truth], [prediction]), boundary_ious(truth.ids, prediction.ids)


def panoptic_card(truth: PanopticSet, results: PanopticSet) -> dict[str, object]:
    """The part of the protocol card that tasks on panoptic files share."""
    things = int(truth.classes.is_thing.sum())
    return {
        "things": things,
        "stuff": len(truth.classes.is_thing) - things,
        "ground truths": _count(truth),
        "predictions": _count(results),
    }


def _count(files: PanopticSet) -> int:
    return sum(frame.segments.ids.size for frames in files.clips.values() for frame in frames.values())
