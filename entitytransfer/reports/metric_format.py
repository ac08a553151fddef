"""How metrics are shown: which come first, in what unit, and whether more is better."""

import math
from collections.abc import Iterable

# What papers print of a task, in their order.
HEADLINES = (
    *("VPQ", "VPQ_th", "VPQ_st", "STQ", "AQ"),
    *("PQ", "SQ", "RQ", "PQ_th", "PQ_st"),
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("mIoU", "fwIoU", "mACC", "pACC"),
    *("AR@1", "AR@10", "AR@100", "AR@100_50:95"),
    *("maxF", "wF", "MAE", "S", "meanE", "HCE"),
)
_FRACTIONS = {"maxF", "wF", "MAE", "S", "meanE", "meanF", "adpF", "maxE", "adpE"}
_COUNT = "HCE"  # and its parts, whose names go on


def headlines(names: Iterable[str]) -> list[str]:
    """The metrics of a task that papers print; all of them where none is known."""
    names = list(names)
    return [name for name in HEADLINES if name in names] or names


def show_metric(name: str, value: float | None, *, sign: bool = False) -> str:
    """A value as the field prints it: most in percent, maps of DIS5K as fractions, clicks as a count; "-" undefined.

    Args:
        name: of the metric.
        value: as an evaluator gives it.
        sign: show a plus, too, as differences do.
    """
    if value is None or math.isnan(value):
        return "-"
    plus = "+" if sign else ""
    if name in _FRACTIONS:
        return f"{value:{plus}.3f}"
    return f"{value:{plus}.0f}" if name.startswith(_COUNT) else f"{100 * value:{plus}.1f}"


def lower_is_better(name: str) -> bool:
    """Whether a metric counts errors."""
    return name == "MAE" or name.startswith(_COUNT)
