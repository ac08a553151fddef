"""Dichotomous segmentation of maps in memory: the numbers of ``score dis5k``. H, W image pixels."""

import numpy as np

from cropformer import rle
from entitytransfer.adapter import Sample
from entitytransfer.evaluators.dichotomous import DichotomousMeasures, MapMeasures
from entitytransfer.evaluators.gathering import SampleRecords


class DichotomousResults:
    """Collects images; of each only numbers are kept.

    Args:
        hce: whether the human correction effort is measured too; it takes most of the time.
    """

    def __init__(self, *, hce: bool = False) -> None:
        self._measure = DichotomousMeasures(hce=hce).measure
        self._hce = hce
        self._images: SampleRecords[MapMeasures, DichotomousMeasures] = SampleRecords(self._join)

    def reset(self) -> None:
        """Forget all images."""
        self._images.clear()

    def update(self, result: np.ndarray, sample: Sample) -> None:
        """Add one image: the map as it would be saved, uint8 [H,W]. What is annotated counts as one mask.

        Raises:
            InputError: the annotation is damaged.
            ValueError: the map is not of this type, or not of the image's size.
        """
        foreground = rle.decode_id_map(sample.truth().rles, sample.size_hw) > 0
        self._images.add(sample, self._measure(result, foreground))

    def compute(self, units: np.ndarray | None = None) -> dict[str, float]:
        """maxF, wF, MAE, S, ...; see `DichotomousMeasures.compute`, and `adapter.Evaluator.compute` for ``units``."""
        return self._images.joined().compute(units)

    def _join(self, images: list[MapMeasures]) -> DichotomousMeasures:
        measures = DichotomousMeasures(hce=self._hce)
        for one in images:
            measures.add(one)
        return measures
