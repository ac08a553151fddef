"""Zero-shot recall (Table 6 of the paper) of predictions in memory: the numbers of ``score recall``."""

import numpy as np

from cropformer import Entities
from entitytransfer.adapter import Sample
from entitytransfer.evaluators.coco_ap import ImageRecall
from entitytransfer.evaluators.coco_images import empty_set, image_set
from entitytransfer.evaluators.detection_summary import MAX_DETS
from entitytransfer.evaluators.gathering import SampleRecords
from entitytransfer.readers.coco_set import CocoSet

_IOU = 0.5


class RecallResults:
    """Matches predictions, which may overlap, with the ground truth; of each image only what matched is kept.

    Every entity counts as the same class.
    """

    def __init__(self) -> None:
        self._images: SampleRecords[ImageRecall, ImageRecall] = SampleRecords(_join)

    def reset(self) -> None:
        """Forget all images."""
        self._images.clear()

    def update(self, result: Entities, sample: Sample) -> None:
        """Add one image. Raises InputError as `image_set` does."""
        self._images.add(sample, _match(image_set(result, sample, None)))

    def compute(self, units: np.ndarray | None = None) -> dict[str, float]:
        """The part of the ground truth of all images that their 1, 10 or 100 best predictions find.

        Args:
            units: see `adapter.Evaluator.compute`.

        Returns:
            Fractions in [0,1]: AR@1, AR@10, AR@100 at IoU 0.5, AR@100_50:95 (mean over IoU .50:.05:.95), and ARs@100,
            ARm@100, ARl@100 by annotated area; nan where there is no ground truth.
        """
        recall = self._images.joined()
        return recall.pooled(np.arange(len(recall.counts)) if units is None else np.sort(units))


def _match(coco_set: CocoSet) -> ImageRecall:
    return ImageRecall(coco_set, max_dets=MAX_DETS, iou_thresholds=(_IOU,))


def _join(images: list[ImageRecall]) -> ImageRecall:
    joined = _match(empty_set(None))
    joined.extend(images)
    return joined
