"""COCO-instance JSON: polygons, uncompressed and compressed RLE, kept encoded until a mask is asked for."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from cropformer import InputError, rle
from entitytransfer.adapter import Sample
from entitytransfer.readers.json_file import read_json


@dataclass(frozen=True)
class CocoInstances:
    """The encoded instances of one image; `source` and `ids` are there to say where an error is."""

    source: Path
    size_hw: tuple[int, int]
    ids: tuple[int | str, ...]
    segmentations: tuple[Any, ...]
    class_labels: tuple[int, ...]

    def masks(self) -> np.ndarray:
        """Decode every instance: bool [N,H,W].

        Raises:
            InputError: a segmentation is damaged or belongs to an image of another size.
        """
        masks = np.zeros((len(self.ids), *self.size_hw), dtype=bool)
        for index, segmentation in enumerate(self.segmentations):
            try:
                masks[index] = decode_segmentation(segmentation, self.size_hw)
            except InputError as error:
                raise InputError(f"{self.source}, annotation {self.ids[index]}: {error}") from error
        return masks

    def labels(self) -> np.ndarray:
        """Return one class label per instance: int64 [N]."""
        return np.asarray(self.class_labels, dtype=np.int64)


def decode_segmentation(segmentation: list | dict, size_hw: tuple[int, int]) -> np.ndarray:
    """Decode polygons, uncompressed or compressed RLE of an image of this size: bool [H,W].

    Everything is checked first, because pycocotools answers damaged input with random masks or by eating all
    memory.

    Raises:
        InputError: the segmentation is damaged or belongs to an image of another size.
    """
    if isinstance(segmentation, list):
        return rle.decode(encode_polygons(segmentation, size_hw))
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise InputError("A segmentation must be a list of polygons or an RLE; correct or remove it.")
    if segmentation["size"] != list(size_hw):
        raise InputError(f"The RLE has size {segmentation['size']} but its image {list(size_hw)}; correct it.")
    if isinstance(segmentation["counts"], list):
        return _decode_runs(segmentation["counts"], size_hw)
    if not isinstance(segmentation["counts"], str):
        raise InputError("The counts of an RLE must be text or a list of runs; correct or remove it.")
    return rle.decode(segmentation)


def encode_polygons(polygons: list, size_hw: tuple[int, int]) -> rle.RLE:
    """Encode the union of checked polygons.

    Raises:
        InputError: a polygon is damaged, or none encloses anything.
    """
    try:
        points = [np.asarray(polygon, dtype=np.float64).reshape(-1, 2) for polygon in polygons]  # [P*2] -> [P,2]
    except (TypeError, ValueError) as error:
        raise InputError("A polygon must be a list of x, y pairs; correct or remove it.") from error
    # Two points enclose nothing, and pycocotools would read their four numbers as a box.
    points = [polygon for polygon in points if len(polygon) >= 3]
    if not points:
        raise InputError("A polygon must have at least three x, y pairs; correct or remove it.")
    if not all((np.abs(polygon) <= 2 * max(size_hw)).all() for polygon in points):
        raise InputError("A polygon lies far outside its image or is not finite; correct or remove it.")
    rles = coco_mask.frPyObjects([polygon.ravel().tolist() for polygon in points], *size_hw)
    union = coco_mask.merge(rles)
    return {"size": list(size_hw), "counts": union["counts"].decode("ascii")}


def _decode_runs(counts: list, size_hw: tuple[int, int]) -> np.ndarray:
    runs = np.asarray(counts)
    if runs.dtype.kind not in "iu" or (runs < 0).any() or runs.sum() != size_hw[0] * size_hw[1]:
        raise InputError(f"The runs of an RLE do not add up to its size {list(size_hw)}; correct or remove it.")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(size_hw[::-1]).T  # [W*H] -> [W,H] -> [H,W]


def read_coco(
    annotations: Path | str,
    image_root: Path | str,
    *,
    exhaustive: bool = False,
    label_of: Mapping[int, int] | None = None,
) -> list[Sample]:
    """Index a COCO-instance file: one `Sample` per image, in file order; crowd annotations are dropped.

    Args:
        annotations: the JSON file.
        image_root: the folder that the images' ``file_name`` is relative to.
        exhaustive: whether every region of every image is annotated.
        label_of: category id → class label; None makes every instance class 0.

    Raises:
        InputError: the file is missing, not COCO-instance JSON, or contradicts itself.
    """
    path = Path(annotations)
    content = load_json(path, fields=("images", "annotations"))
    try:
        instances = defaultdict(list)
        for instance in content["annotations"]:
            if not instance.get("iscrowd", 0):
                instances[instance["image_id"]].append(instance)
        samples = []
        for image in content["images"]:
            size_hw = (int(image["height"]), int(image["width"]))
            annotation = _keep_instances(path, size_hw, instances.pop(image["id"], []), label_of)
            image_path = Path(image_root) / image["file_name"]
            samples.append(Sample(image["id"], image_path, size_hw, annotation, exhaustive))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not COCO-instance JSON, {error!r}; check the file's name.") from error
    if instances:
        raise InputError(f"{path} annotates image {next(iter(instances))} but does not list it; add it.")
    return samples


def load_json(path: Path, *, fields: tuple[str, ...]) -> dict:
    """Load a JSON object that has all of `fields`, or raise `InputError`."""
    content = read_json(path)
    missing = [field for field in fields if not isinstance(content, dict) or field not in content]
    if missing:
        raise InputError(f"{path} has no field '{missing[0]}'; check that it is a COCO-format annotation file.")
    return content


def _keep_instances(
    source: Path, size_hw: tuple[int, int], instances: list[dict], label_of: Mapping[int, int] | None
) -> CocoInstances:
    return CocoInstances(
        source=source,
        size_hw=size_hw,
        ids=tuple(instance["id"] for instance in instances),
        segmentations=tuple(instance["segmentation"] for instance in instances),
        class_labels=tuple(label_of[instance["category_id"]] if label_of is not None else 0 for instance in instances),
    )
