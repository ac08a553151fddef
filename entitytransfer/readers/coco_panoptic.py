"""COCO-panoptic ground truth and results as they are scored, every record checked before a PNG is read."""

from pathlib import Path

from entitytransfer.readers.coco_json import load_json
from entitytransfer.readers.panoptic_frames import (
    PanopticFrame,
    PanopticSet,
    new_clip,
    read_classes,
    read_predicted_segments,
    read_true_segments,
    text_field,
)
from entitytransfer.readers.records import by_id, records

_NAME = "image"  # of the one frame of an image


def read_panoptic_truth(path: Path, png_dir: Path) -> PanopticSet:
    """Read the annotated images of a COCO-panoptic file.

    Raises:
        InputError: the file is not that, or a record is damaged or contradicts another; with file and record.
    """
    content = load_json(path, fields=("images", "annotations", "categories"))
    classes = read_classes(content["categories"], source=path)
    sizes_hw = {
        image_id: image.size_hw()
        for image_id, image in by_id(records(content["images"], source=path, kind="image")).items()
    }
    images = {}
    for one in records(content["annotations"], source=path, kind="annotation"):
        image_id = new_clip(one, "image_id", seen=images)
        size_hw = one.lookup("image_id", sizes_hw)
        png_path = png_dir / text_field(one, "file_name")
        images[image_id] = {_NAME: PanopticFrame(png_path, read_true_segments(one, classes), size_hw)}
    return PanopticSet(path, classes, images)


def read_panoptic_results(path: Path, png_dir: Path, truth: PanopticSet, *, any_category: bool = False) -> PanopticSet:
    """Read a COCO-panoptic result file for this ground truth.

    Args:
        path: a JSON object with "annotations"; the rest of it is not looked at.
        png_dir: the folder that the annotations' ``file_name`` is relative to.
        truth: what the predictions are about.
        any_category: see `read_predicted_segments`.

    Raises:
        InputError: the file is not that, an image is missing, unknown or there twice, or a record is damaged.
    """
    content = load_json(path, fields=("annotations",))
    images = {}
    for one in records(content["annotations"], source=path, kind="prediction"):
        image_id = new_clip(one, "image_id", seen=images, known=truth.clips)
        segments = read_predicted_segments(one, truth.classes, any_category=any_category)
        images[image_id] = {_NAME: PanopticFrame(png_dir / text_field(one, "file_name"), segments)}
    results = PanopticSet(path, truth.classes, images)
    results.check_complete(truth)
    return results
