"""The official ground truth and predictions of the fixtures in memory, as evaluators take them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cropformer import Entities, rle
from entitytransfer.adapter import Result, Sample, Truth
from entitytransfer.classes import Classes
from entitytransfer.readers.coco_json import read_coco
from entitytransfer.readers.coco_results import CocoTruth
from entitytransfer.readers.grey_maps import read_map
from entitytransfer.readers.label_map import LabelRegions, read_label_map
from entitytransfer.readers.label_png import read_foreground
from entitytransfer.readers.panoptic_png import read_id_map, read_panoptic

DATA = Path(__file__).parents[1] / "data" / "metrics"
ADE20K = DATA / "ade20k"
OFFICIAL = ADE20K / "ADEChallengeData2016"
FILES = {
    "entity": (OFFICIAL / "ade20k_entity_val.json", ADE20K / "pred_entity.json"),
    "instance": (OFFICIAL / "ade20k_instance_val.json", ADE20K / "pred_instance.json"),
    "panoptic": (OFFICIAL / "ade20k_panoptic_val.json", ADE20K / "pred_panoptic.json"),
    "semantic": (OFFICIAL / "annotations_detectron2" / "validation", ADE20K / "pred_sem_seg"),
    "dis5k": (DATA / "dis5k" / "DIS5K" / "DIS-VD" / "gt", DATA / "dis5k" / "pred" / "DIS-VD"),
}

Pairs = list[tuple[Result, Sample]]


@dataclass(frozen=True)
class Known:
    """An annotation of which only the truth is known."""

    known: Truth

    def truth(self) -> Truth:
        return self.known


def truth_of(masks: Sequence[np.ndarray], labels=None, areas=None, crowds=()) -> Truth:
    """Masks bool [H,W], by default all of class 0, with the areas that they have and no crowd among them."""
    return Truth(
        rles=[rle.encode(mask) for mask in masks],
        labels=np.zeros(len(masks), dtype=np.int64) if labels is None else np.asarray(labels),
        areas=np.array([mask.sum() for mask in masks] if areas is None else areas, dtype=np.float64),
        is_crowd=np.isin(np.arange(len(masks)), crowds),
    )


def sample_of(truth: Truth, size_hw: tuple[int, int], image_id: int | str = 1) -> Sample:
    return Sample(image_id, Path(f"{image_id}.jpg"), size_hw, Known(truth), exhaustive=True)


def feed(metric, pairs: Pairs):
    """Give an evaluator everything, and give it back."""
    for result, sample in pairs:
        metric.update(result, sample)
    return metric


def only(metric, result: Result, truth: Truth, size_hw: tuple[int, int]) -> dict[str, float]:
    """The numbers of a single image."""
    return feed(metric, [(result, sample_of(truth, size_hw))]).compute()


def classes_of(path: Path) -> Classes:
    """In the order of the file."""
    listed = json.loads(path.read_text())["categories"]
    names, ids, things = zip(*((one["name"], one["id"], bool(one.get("isthing", 1))) for one in listed))
    return Classes(names, ids, things)


def instance_pairs(task: str, labels: dict[int, int] | None = None) -> Pairs:
    """COCO results of the task; without labels all of class 0."""
    ground_truth, predictions = FILES[task]
    results = json.loads(predictions.read_text())
    samples = read_coco(ground_truth, ground_truth.parent, label_of=labels)
    return [(entities_of(results, sample.image_id, sample.size_hw, labels), sample) for sample in samples]


def entities_of(results: list[dict], image_id: int | str, size_hw: tuple[int, int], labels=None) -> Entities:
    own = [one for one in results if one["image_id"] == image_id]
    classes = [0 if labels is None else labels[one["category_id"]] for one in own]
    return Entities.from_rles(size_hw, [one["segmentation"] for one in own], [one["score"] for one in own], classes)


def panoptic_pairs() -> Pairs:
    ground_truth, predictions = FILES["panoptic"]
    labels = classes_of(ground_truth).labels()
    samples = read_panoptic(ground_truth, ground_truth.with_suffix(""), ground_truth.parent, label_of=labels)
    listed = {one["image_id"]: one for one in json.loads(predictions.read_text())["annotations"]}
    return [(_segments(listed[sample.image_id], predictions.with_suffix(""), labels), sample) for sample in samples]


def _segments(entry: dict, folder: Path, labels: dict[int, int]) -> Entities:
    segments = entry["segments_info"]
    id_map = read_id_map(folder / entry["file_name"])
    rles = rle.encode_id_map(id_map, [one["id"] for one in segments])
    classes = [labels[one["category_id"]] for one in segments]
    return Entities.from_rles(id_map.shape, rles, np.ones(len(rles)), classes)


def semantic_pairs() -> Pairs:
    ground_truth, predictions = FILES["semantic"]
    pairs = []
    for path in sorted(ground_truth.glob("*.png")):
        result = _regions(read_label_map(predictions / path.name))
        regions = LabelRegions(path, result.size_hw, classes=150)
        pairs.append((result, Sample(path.stem, path, result.size_hw, regions, exhaustive=True)))
    return pairs


def _regions(label_map: np.ndarray) -> Entities:
    labels = np.unique(label_map)
    return Entities.from_rles(label_map.shape, rle.encode_id_map(label_map, labels), np.ones(labels.size), labels)


def dis5k_pairs() -> Pairs:
    ground_truth, predictions = FILES["dis5k"]
    masks = {path.name: read_foreground(path) for path in ground_truth.glob("*.png")}
    return [
        (read_map(predictions / name), sample_of(truth_of([mask]), mask.shape, Path(name).stem))
        for name, mask in masks.items()
    ]


def recall_pairs(truth: CocoTruth, predictions: Path) -> Pairs:
    """The ground truth of any set of ``score recall`` with results for it."""
    results = json.loads(predictions.read_text())
    names = {number: image_id for image_id, number in truth.image_numbers.items()}
    pairs = []
    for number, image_id in names.items():
        size_hw = truth.size_hw(number)
        own = truth.annotations(range(number, number + 1))
        regions = Truth(
            rles=[one["segmentation"] for one in own],
            labels=np.zeros(len(own), dtype=np.int64),
            areas=np.array([one["area"] for one in own]),
            is_crowd=np.array([one["iscrowd"] for one in own], dtype=bool),
        )
        pairs.append((entities_of(results, image_id, size_hw), sample_of(regions, size_hw, image_id)))
    return pairs
