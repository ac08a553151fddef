"""Class-agnostic COCO AP and AR, and AR@100 at IoU 0.5, computed by faster-coco-eval."""

from dataclasses import dataclass

from faster_coco_eval import COCO, COCOeval_faster

from cropformer import Entities, rle
from entitytransfer.adapter import Sample
from entitytransfer.evaluators.gathering import gather

# The first of the twelve numbers that every COCO evaluator summarises, in its order.
SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
METRICS = (*SUMMARY, "AR@100")
CATEGORY = 1


@dataclass(frozen=True)
class _Image:
    """One image as run lengths: COCO annotations and results that lack only the ids."""

    key: tuple[float, str, str]
    size_hw: tuple[int, int]
    truths: list[dict]
    results: list[dict]


class AveragePrecision:
    """Collects the predictions and the ground truth of a set, image by image, then scores them all at once.

    Every entity counts as the same class, whatever its label. On a set that is not exhaustively annotated the
    recalls are meaningful and the precisions are not: a right prediction without annotation counts as wrong.
    Masks are kept as run lengths; none is decoded.

    Each process may take a share of the images, without duplicates: ``compute`` joins the shares. Images are
    scored in the order of their ids, so that equal scores rank the same whoever took which image.

    Args:
        max_entities: how many predictions of an image count, best first; 100 for COCO. The numbers named after 100
            predictions are over so many.
    """

    def __init__(self, *, max_entities: int = 100) -> None:
        self._max_entities = max_entities
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._images: list[_Image] = []

    def update(self, entities: Entities, sample: Sample) -> None:
        """Add one image. Ground truth without a visible pixel is left out; its area is its pixel count.

        Raises:
            InputError: the sample's annotation is damaged.
        """
        areas = [(rle.area(encoded), encoded) for encoded in sample.entity_rles()]
        # Without "bbox", or the library would sort predictions into size ranges by the area of their boxes.
        self._images.append(
            _Image(
                key=_order(sample),
                size_hw=sample.size_hw,
                truths=[{"area": area, "segmentation": encoded} for area, encoded in areas if area],
                results=[
                    {"score": float(score), "segmentation": encoded}
                    for score, encoded in zip(entities.scores, entities.rles)
                ],
            )
        )

    def compute(self) -> dict[str, float]:
        """Score everything that all processes have added so far; all of them must call it, and get the same.

        Returns:
            Fractions in [0,1]: AP (IoU .50:.05:.95), AP50, AP75, APs, APm, APl (areas up to 32², 96², above),
            AR1, AR10, AR100 (IoU .50:.05:.95, best 1, 10, 100 predictions per image), and ``AR@100``: the
            matched part of all ground truth, pooled over images, at IoU 0.5 with the 100 best predictions per
            image. nan where COCO says -1: there is no ground truth in that range.
        """
        images = sorted(gather(self._images), key=lambda image: image.key)
        truth, results = _coco(images)
        if not truth["annotations"]:
            return dict.fromkeys(METRICS, float("nan"))
        indexed = COCO(truth)
        evaluation = COCOeval_faster(indexed, indexed.loadRes(results), "segm", print_function=_say_nothing)
        evaluation.params.maxDets = [1, 10, self._max_entities]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        recall_at_50 = evaluation.eval["recall"][0, 0, 0, -1]  # [IoU,K,area,maxDets], all areas, 100 predictions
        values = [*evaluation.stats[: len(SUMMARY)], recall_at_50]
        return {key: float("nan") if value < 0 else float(value) for key, value in zip(METRICS, values)}


def _order(sample: Sample) -> tuple[float, str, str]:
    """Images with numbers as ids come in the order of these, as when files are scored; others by their text."""
    number = sample.image_id if isinstance(sample.image_id, int) else float("inf")
    return number, str(sample.image_id), str(sample.image_path)


def _coco(images: list[_Image]) -> tuple[dict, list[dict]]:
    """Ground truth and results; the library accepts integer ids only, and not every set has them."""
    listed: list[dict] = []
    truths: list[dict] = []
    results: list[dict] = []
    for image_id, image in enumerate(images, start=1):
        common = {"image_id": image_id, "category_id": CATEGORY}
        listed.append({"id": image_id, "height": image.size_hw[0], "width": image.size_hw[1]})
        truths += [truth | common | {"iscrowd": 0} for truth in image.truths]
        results += [result | common for result in image.results]
    numbered = [truth | {"id": truth_id} for truth_id, truth in enumerate(truths, start=1)]
    return {"images": listed, "annotations": numbered, "categories": [{"id": CATEGORY, "name": "entity"}]}, results


def _say_nothing(*_: object) -> None:
    """Take the library's progress lines."""
