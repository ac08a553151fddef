"""Semantic segmentation: IoU and accuracy by class over all pixels of a set, as detectron2's SemSegEvaluator does."""

import numpy as np

from cropformer import InputError
from entitytransfer.evaluators.segment_tables import count_pairs
from entitytransfer.evaluators.unit_sums import UnitSums

MAX_LABELS = 2**16
_SHARED, _TRUE, _PREDICTED = range(3)


def count_labels(
    truth: np.ndarray, predicted: np.ndarray, *, num_classes: int | None, ignore: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels of an image's labels where the ground truth is not ignored.

    Args:
        truth: integers [H,W].
        predicted: integers [H,W].
        num_classes: labels are below this; None = every label but ``ignore`` is a class.
        ignore: ground truth that is not scored.

    Returns:
        The labels that either map has, int64 [N], and for each the pixels in both, in the ground truth, and in the
        predictions: float64 [N,3].

    Raises:
        InputError: sizes differ, or a label is no class.
    """
    if truth.shape != predicted.shape:
        raise InputError(
            f"The prediction has height and width {predicted.shape} but the ground truth {truth.shape}; "
            "save it at the size of the ground truth."
        )
    truths, predictions, areas = count_pairs(truth, predicted)
    scored = truths != ignore
    truths, predictions, areas = truths[scored], predictions[scored], areas[scored]
    _check("ground truth", truths, num_classes, ignore)
    _check("prediction", predictions, num_classes, ignore)
    labels = np.union1d(truths, predictions)
    columns = [
        np.bincount(np.searchsorted(labels, chosen), weights, minlength=labels.size)
        for chosen, weights in ((truths, areas * (truths == predictions)), (truths, areas), (predictions, areas))
    ]
    return labels, np.stack(columns, axis=1)


class SemanticIoU:
    """Collects images; of each only pixel counts of the labels that it has are kept.

    Args:
        num_classes: see `count_labels`.
        ignore: see `count_labels`.
    """

    def __init__(self, *, num_classes: int | None = None, ignore: int = 255) -> None:
        self._num_classes = num_classes
        self._ignore = ignore
        self._pixels = UnitSums(MAX_LABELS, 3)

    def update(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Add an image: integer labels [H,W] twice."""
        self.add(*self.count(truth, predicted))

    def count(self, truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`count_labels` with these options; adds nothing, so that threads may call it."""
        return count_labels(truth, predicted, num_classes=self._num_classes, ignore=self._ignore)

    def add(self, labels: np.ndarray, pixels: np.ndarray) -> None:
        """Add an image that has been counted."""
        self._pixels.append(labels, pixels)

    def compute(self, units: np.ndarray | None = None) -> dict[str, float]:
        """mIoU, fwIoU (weighted by true pixels), mACC, pACC; nan if no pixel is scored.

        Means are over the classes that the ground truth has. Predictions on ignored pixels do not count.

        Args:
            units: indices of the images to count, once for every time they are named; all if left out.
        """
        pixels = self._pixels.total(units)
        pixels = pixels[pixels[:, _TRUE] > 0]
        if not pixels.size:
            return dict.fromkeys(("mIoU", "fwIoU", "mACC", "pACC"), float("nan"))
        ious = pixels[:, _SHARED] / (pixels[:, _TRUE] + pixels[:, _PREDICTED] - pixels[:, _SHARED])
        weights = pixels[:, _TRUE] / pixels[:, _TRUE].sum()
        return {
            "mIoU": float(ious.mean()),
            "fwIoU": float((ious * weights).sum()),
            "mACC": float((pixels[:, _SHARED] / pixels[:, _TRUE]).mean()),
            "pACC": float(pixels[:, _SHARED].sum() / pixels[:, _TRUE].sum()),
        }


def _check(kind: str, labels: np.ndarray, num_classes: int | None, ignore: int) -> None:
    limit = MAX_LABELS if num_classes is None else num_classes
    wrong = labels[(labels < 0) | (labels >= limit)]
    if wrong.size:
        raise InputError(
            f"the {kind} has label {wrong[0]}, but classes are below {limit} and only {ignore} is ignored in the "
            "ground truth; correct the PNG or the options."
        )
