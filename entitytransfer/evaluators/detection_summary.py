"""The twelve numbers of a detection benchmark, from the arrays that COCOeval and YTVOSeval accumulate.

T IoU thresholds · R recall levels · K classes · A area ranges (all, small, medium, large) · M numbers of predictions.
"""

from collections.abc import Sequence

import numpy as np

from cropformer import InputError

IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
MAX_DETS = (1, 10, 100)
AREAS = ("all", "s", "m", "l")


def summarize(
    precision: np.ndarray, recall: np.ndarray, *, iou_thresholds: Sequence[float], max_dets: Sequence[int]
) -> dict[str, float]:
    """Means over thresholds and classes, as the official ``summarize`` takes them.

    Args:
        precision: [T,R,K,A,M], -1 where a class has no ground truth.
        recall: [T,K,A,M], likewise.
        iou_thresholds: T values.
        max_dets: M values, ascending.

    Returns:
        AP, AP50, AP75, APs, APm, APl at the most predictions, AR1, AR10, AR100 (named after ``max_dets``), ARs, ARm,
        ARl. nan where there is no ground truth, or no such threshold.
    """
    thresholds = np.asarray(iou_thresholds)
    at_most = precision[..., -1]  # [T,R,K,A]
    values = {"AP": _mean(at_most[..., 0])}
    values |= {f"AP{round(100 * one)}": _mean(at_most[np.isclose(thresholds, one), ..., 0]) for one in (0.5, 0.75)}
    values |= {f"AP{area}": _mean(at_most[..., index]) for index, area in enumerate(AREAS) if index}
    values |= {f"AR{limit}": _mean(recall[:, :, 0, index]) for index, limit in enumerate(max_dets)}
    return values | {f"AR{area}": _mean(recall[:, :, index, -1]) for index, area in enumerate(AREAS) if index}


def check_limits(max_dets: Sequence[int], iou_thresholds: Sequence[float], top_k: int | None) -> None:
    """Raise `InputError` unless the numbers of predictions ascend and the thresholds lie between 0 and 1."""
    if top_k is not None and top_k < 1:
        raise InputError(f"The option 'top_k' must be at least 1, not {top_k}.")
    if not max_dets or min(max_dets) < 1 or sorted(set(max_dets)) != list(max_dets):
        raise InputError(
            f"The numbers of predictions must ascend from 1 or more, not {list(max_dets)}; change max_dets."
        )
    thresholds = list(iou_thresholds)
    if not thresholds or not all(0 < one <= 1 for one in thresholds) or sorted(set(thresholds)) != thresholds:
        raise InputError(f"IoU thresholds must ascend between 0 and 1, not {thresholds}; change iou_thresholds.")


def _mean(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else float("nan")
