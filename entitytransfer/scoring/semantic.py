"""Semantic segmentation: mIoU, fwIoU, mACC and pACC of detectron2 from two folders of label PNGs."""

from pathlib import Path

import numpy as np

from cropformer import InputError
from entitytransfer.evaluation.bootstrap import percentile_intervals
from entitytransfer.evaluators.semantic_iou import SemanticIoU
from entitytransfer.readers.label_png import read_labels
from entitytransfer.scorecard import Score
from entitytransfer.threads import workers_pool


def score(
    *,
    ground_truth: Path,
    predictions: Path,
    num_classes: int | None = None,
    ignore: int = 255,
    workers: int | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Score:
    """Score label PNGs; those of an image have the same path in both folders.

    Args:
        ground_truth: folder of PNGs with a class from 0 in each pixel.
        predictions: folder of PNGs of the same sizes.
        num_classes: labels are below this; None = every label but ``ignore`` is a class. The metrics do not depend
            on it, but a label that is no class is refused.
        ignore: pixels with this label in the ground truth are not scored.
        workers: threads that read images; None = one for each processor. The numbers do not depend on it.
        bootstrap: resamplings of the images for confidence intervals.
        seed: of the resampling.

    Raises:
        InputError: a file or an option that cannot be scored.
    """
    pairs = _matched(ground_truth, predictions)
    metric = SemanticIoU(num_classes=num_classes, ignore=ignore)

    def count(paths: tuple[Path, Path]) -> tuple[np.ndarray, np.ndarray]:
        truth, predicted = map(read_labels, paths)
        try:
            return metric.count(truth, predicted)
        except InputError as error:
            raise InputError(f"{paths[1]}, with its ground truth {paths[0]}: {error}") from error

    with workers_pool(workers) as pool:
        for labels, pixels in pool.map(count, pairs):
            metric.add(labels, pixels)
    images = np.arange(len(pairs))
    return Score(
        metrics=metric.compute(),
        protocol={
            "task": "semantic",
            "images": len(pairs),
            "num_classes": num_classes,
            "ignore": ignore,
            "evaluator": "own, as detectron2's SemSegEvaluator",
        },
        intervals=percentile_intervals(metric.compute, images, draws=bootstrap, seed=seed),
    )


def _matched(ground_truth: Path, predictions: Path) -> list[tuple[Path, Path]]:
    """The PNGs of both folders that have the same path, in the order of the paths."""
    truths, results = _pngs(ground_truth), _pngs(predictions)
    for name in truths:
        if name not in results:
            raise InputError(f"{predictions} has no {name}, which {ground_truth} has; predict it.")
    for name in results:
        if name not in truths:
            raise InputError(f"{results[name]} has no ground truth in {ground_truth}; remove it.")
    return [(truths[name], results[name]) for name in truths]


def _pngs(folder: Path) -> dict[str, Path]:
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.png"))}
    if not found:
        raise InputError(f"There is no PNG in {folder}; check the path.")
    return found
