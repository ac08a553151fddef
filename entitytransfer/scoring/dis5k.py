"""Dichotomous segmentation of DIS5K: F, weighted F, MAE, S, E and human correction effort of folders of grey maps."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cropformer import InputError
from entitytransfer.evaluation.bootstrap import percentile_intervals
from entitytransfer.evaluators.dichotomous import DichotomousMeasures, MapMeasures
from entitytransfer.evaluators.human_correction import EPSILON, RELAX
from entitytransfer.evaluators.skeletons import SkeletonCache
from entitytransfer.readers.grey_maps import MapFiles, match_maps, read_map
from entitytransfer.readers.image_list import read_image_list
from entitytransfer.readers.label_png import FOREGROUND, read_foreground
from entitytransfer.readers.mask_folder import check_splits
from entitytransfer.scorecard import Score
from entitytransfer.threads import workers_pool

SPLIT = "DIS-VD"  # that of Table 5 of the paper


def score(
    *,
    ground_truth: Path,
    predictions: Path,
    split: str | None = None,
    hce: bool = True,
    relax: int = RELAX,
    epsilon: float = EPSILON,
    skeletons: Path | None = None,
    image_list: Path | None = None,
    workers: int | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Score:
    """Score maps as SOCToolbox does, and their correction effort as ``hce_metric_main.py`` of DIS does.

    Args:
        ground_truth: a folder of mask PNGs, or one that holds it as ``gt``; or DIS5K, which holds ``SPLIT/gt``.
        predictions: a folder of 8-bit grey PNGs of the same names and sizes, or one that holds it as ``SPLIT``.
        split: of DIS5K: names with commas between them, scored together; DIS-VD if left out.
        hce: whether HCE is measured too; it takes most of the time.
        relax: HCE: errors that this many erosions remove cost nothing.
        epsilon: HCE: pixels by which a polygon may deviate from a border.
        skeletons: HCE: a folder that keeps the skeletons of the ground truth for the next run; None = nowhere.
        image_list: text file with the names (without .png; of several splits SPLIT/NAME) that count; None = all.
        workers: threads that score images; None = one for each processor. The numbers do not depend on it.
        bootstrap: resamplings of the images for confidence intervals.
        seed: of the resampling.

    Raises:
        InputError: a file or an option that cannot be scored.
    """
    _check_effort(relax, epsilon)
    splits = _splits(ground_truth, split)
    files = _match(ground_truth, predictions, splits)
    chosen = _listed(files, image_list)
    metric = DichotomousMeasures(hce=hce, relax=relax, epsilon=epsilon)
    _measure(metric, chosen, cache=SkeletonCache(skeletons) if hce else None, workers=workers)
    return Score(
        metrics=metric.compute(),
        protocol={
            "task": "dis5k",
            "split": splits or _folder_name(ground_truth),
            "images": len(chosen),
            "foreground": f"ground truth above {FOREGROUND}; maps too, for HCE",
            "maps": "each stretched to [0,1], not for HCE",
            "hce": hce,
            "relax": relax if hce else None,
            "epsilon": epsilon if hce else None,
            "evaluator": "own, as SOCToolbox and DIS' hce_metric_main.py",
        },
        intervals=percentile_intervals(metric.compute, np.arange(len(chosen)), draws=bootstrap, seed=seed),
        in_percent=False,
    )


def _measure(
    metric: DichotomousMeasures, files: Sequence[MapFiles], *, cache: SkeletonCache | None, workers: int | None
) -> None:
    """Count all images. Threads suffice: whatever takes long runs outside of Python's lock."""

    def measure(pair: MapFiles) -> MapMeasures:
        foreground = read_foreground(pair.ground_truth)
        skeleton = None if cache is None else cache.skeleton(foreground)
        return metric.measure(read_map(pair.prediction), foreground, skeleton=skeleton)

    with workers_pool(workers) as pool:
        for measures in pool.map(measure, files):
            metric.add(measures)


def _check_effort(relax: int, epsilon: float) -> None:
    if relax < 0 or not (epsilon >= 0 and math.isfinite(epsilon)):
        raise InputError(f"HCE needs relax and epsilon of at least 0, not {relax} and {epsilon}; change the options.")


def _splits(root: Path, names: str | None) -> list[str]:
    """The folders of DIS5K to score; none if the ground truth is a folder of masks itself."""
    if names is None:
        return [SPLIT] if (root / SPLIT).is_dir() else []
    return check_splits(root, names)


def _match(ground_truth: Path, predictions: Path, splits: Sequence[str]) -> dict[str, MapFiles]:
    """The files by image id, checked."""
    if not splits:
        folder = ground_truth / "gt"
        return match_maps(folder if folder.is_dir() else ground_truth, predictions)
    if len(splits) == 1:
        folder = predictions / splits[0]
        return match_maps(ground_truth / splits[0] / "gt", folder if folder.is_dir() else predictions)
    matched = {split: match_maps(ground_truth / split / "gt", predictions / split) for split in splits}
    return {f"{split}/{image_id}": pair for split, pairs in matched.items() for image_id, pair in pairs.items()}


def _listed(files: dict[str, MapFiles], image_list: Path | None) -> list[MapFiles]:
    """The files of the images that count."""
    pairs = list(files.values())
    numbers = {image_id: number for number, image_id in enumerate(files, start=1)}
    return [pairs[index] for index in read_image_list(image_list, numbers)]


def _folder_name(ground_truth: Path) -> str:
    folder = ground_truth.resolve()
    return folder.parent.name if folder.name == "gt" else folder.name
