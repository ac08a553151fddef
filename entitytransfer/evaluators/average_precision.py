"""Class-agnostic COCO AP and AR, and AR@100 at IoU 0.5, computed by faster-coco-eval."""

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from cropformer import Entities, rle
from entitytransfer.adapter import Sample

# The first of the twelve numbers that every COCO evaluator summarises, in its order.
SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
CATEGORY = 1


class AveragePrecision:
    """Collects the predictions and the ground truth of a set, image by image, then scores them all at once.

    Every entity counts as the same class, whatever its label. On a set that is not exhaustively annotated the
    recalls are meaningful and the precisions are not: a right prediction without annotation counts as wrong.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._images: list[dict] = []
        self._truths: list[dict] = []
        self._results: list[dict] = []

    def update(self, entities: Entities, sample: Sample) -> None:
        """Add one image. Ground truth without a visible pixel is left out; its area is its pixel count.

        Raises:
            InputError: the sample's annotation cannot be decoded.
        """
        # The library accepts integer ids only, and not every set has them: images are numbered as they come.
        image_id = len(self._images) + 1
        height, width = sample.size_hw
        self._images.append({"id": image_id, "height": height, "width": width})
        for mask in sample.entity_masks():
            if mask.any():
                self._truths.append(_truth(mask, image_id, truth_id=len(self._truths) + 1))
        # Without "bbox", or the library would sort predictions into size ranges by the area of their boxes.
        self._results += [
            {key: result[key] for key in ("image_id", "segmentation", "score")} | {"category_id": CATEGORY}
            for result in entities.to_coco(image_id)
        ]

    def compute(self) -> dict[str, float]:
        """Score everything added so far.

        Returns:
            Fractions in [0,1]: AP (IoU .50:.05:.95), AP50, AP75, APs, APm, APl (areas up to 32², 96², above),
            AR1, AR10, AR100 (IoU .50:.05:.95, best 1, 10, 100 predictions per image), and ``AR@100``: the
            matched part of all ground truth, pooled over images, at IoU 0.5 with the 100 best predictions per
            image. nan where COCO says -1: there is no ground truth in that range.
        """
        truth = COCO(
            {
                "images": self._images,
                "annotations": self._truths,
                "categories": [{"id": CATEGORY, "name": "entity"}],
            }
        )
        evaluation = COCOeval_faster(truth, truth.loadRes(self._results), "segm", print_function=_say_nothing)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        recall_at_50 = evaluation.eval["recall"][0, 0, 0, -1]  # [IoU,K,area,maxDets], all areas, 100 predictions
        values = [*evaluation.stats[: len(SUMMARY)], recall_at_50]
        return {key: float("nan") if value < 0 else float(value) for key, value in zip((*SUMMARY, "AR@100"), values)}


def _truth(mask: np.ndarray, image_id: int, *, truth_id: int) -> dict:
    encoded = rle.encode(mask)
    return {
        "id": truth_id,
        "image_id": image_id,
        "category_id": CATEGORY,
        "iscrowd": 0,
        "area": rle.area(encoded),
        "segmentation": encoded,
    }


def _say_nothing(*_: object) -> None:
    """Take the library's progress lines."""
