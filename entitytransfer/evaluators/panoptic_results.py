"""Panoptic segmentation of predictions in memory: the numbers of ``score panoptic``. N segments · H, W image pixels."""

import numpy as np

from cropformer import Entities
from entitytransfer.adapter import Sample
from entitytransfer.classes import Classes
from entitytransfer.evaluators.entity_maps import map_entities, map_truth
from entitytransfer.evaluators.gathering import SampleRecords
from entitytransfer.evaluators.panoptic_quality import PanopticQuality
from entitytransfer.evaluators.segment_tables import ClipTable, tabulate


class PanopticResults:
    """Collects images; of each only the pixels that pairs of segments share are kept, counted.

    Args:
        classes: what labels mean.
    """

    def __init__(self, classes: Classes) -> None:
        self._is_thing = np.array(classes.is_thing, dtype=bool)
        self._images: SampleRecords[ClipTable, PanopticQuality] = SampleRecords(self._join)

    def reset(self) -> None:
        """Forget all images."""
        self._images.clear()

    def update(self, result: Entities, sample: Sample) -> None:
        """Add one image. Of entities that overlap the one with the better score keeps the pixels.

        Raises:
            InputError: the annotation is damaged, or the result has another size.
        """
        truth = map_truth(sample.truth(), sample.size_hw, source=f"The ground truth of image {sample.image_id}")
        predicted = map_entities(result, source=f"The prediction of image {sample.image_id}")
        self._images.add(sample, tabulate([truth], [predicted]))

    def compute(self, units: np.ndarray | None = None) -> dict[str, float]:
        """PQ, SQ, RQ and those of things and stuff; see `PanopticQuality.compute`, and `adapter.Evaluator.compute`."""
        return self._images.joined().compute(units)

    def _join(self, images: list[ClipTable]) -> PanopticQuality:
        quality = PanopticQuality(self._is_thing)
        for table in images:
            quality.update(table)
        return quality
