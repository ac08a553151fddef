"""Semantic segmentation of predictions in memory: the numbers of ``score semantic``. H, W image pixels · K classes."""

from collections.abc import Sequence

import numpy as np

from cropformer import Entities, rle
from entitytransfer.adapter import Sample
from entitytransfer.classes import Classes
from entitytransfer.evaluators.gathering import SampleRecords
from entitytransfer.evaluators.semantic_iou import SemanticIoU

_Counts = tuple[np.ndarray, np.ndarray]


class SemanticResults:
    """Collects images; of each only pixel counts of the labels that it has are kept.

    Args:
        classes: what labels mean.
    """

    def __init__(self, classes: Classes) -> None:
        self._nothing = len(classes)  # the label of pixels without one
        self._images: SampleRecords[_Counts, SemanticIoU] = SampleRecords(self._join)

    def reset(self) -> None:
        """Forget all images."""
        self._images.clear()

    def update(self, result: Entities, sample: Sample) -> None:
        """Add one image; every pixel has the label of its region.

        Pixels in no annotated region are ignored, pixels in no predicted one are wrong. Of regions that overlap the
        first, which of predictions is the one with the best score, keeps its pixels.

        Raises:
            InputError: the annotation is damaged, the result has another size, or a label is no class.
        """
        truth = sample.truth()
        actual = self._paint(truth.rles, truth.labels, sample.size_hw)
        predicted = self._paint(result.rles, result.labels, result.size_hw)
        self._images.add(sample, self._measure().count(actual, predicted))

    def compute(self, units: np.ndarray | None = None) -> dict[str, float]:
        """mIoU, fwIoU, mACC, pACC; see `SemanticIoU.compute`, and `adapter.Evaluator.compute` for ``units``."""
        return self._images.joined().compute(units)

    def _paint(self, rles: Sequence[rle.RLE], labels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        """int64 [H,W]."""
        return np.concatenate([[self._nothing], labels])[rle.decode_id_map(rles, size_hw)]

    def _measure(self) -> SemanticIoU:
        return SemanticIoU(num_classes=self._nothing + 1, ignore=self._nothing)

    def _join(self, images: list[_Counts]) -> SemanticIoU:
        measure = self._measure()
        for labels, pixels in images:
            measure.add(labels, pixels)
        return measure
