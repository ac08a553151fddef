"""Generated ground truth and results for the benchmark of scoring: blobs with rough outlines, written as run lengths.

Nothing is ever painted, so that a set of a hundred thousand masks is there in a minute. N masks · W image columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from entitytransfer.writers.ytvis import YtvisWriter

CATEGORY = {"id": 1, "name": "entity"}
BOX_NOISE = 0.08  # of predictions around what they are about, as a part of its sides


def write_images(folder: Path, *, images: int, truths: int, predictions: int, size_hw: tuple[int, int]) -> None:
    """Write gt.json and pred.json of COCO."""
    generator = np.random.default_rng(0)
    annotations, results = [], []
    for image_id in range(1, images + 1):
        boxes = draw_boxes(generator, truths, size_hw)
        for box in boxes:
            encoded, area = blob(generator, box, size_hw)
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0}
            annotations.append(annotation | {"area": area, "bbox": box.tolist(), "segmentation": encoded})
        for box, score in near(generator, boxes, predictions, size_hw):
            encoded, _ = blob(generator, box, size_hw)
            results.append({"image_id": image_id, "category_id": 1, "score": score, "segmentation": encoded})
    listed = [{"id": one, "height": size_hw[0], "width": size_hw[1]} for one in range(1, images + 1)]
    truth = {"images": listed, "categories": [CATEGORY], "annotations": annotations}
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "pred.json").write_text(json.dumps(results))


def write_videos(
    folder: Path, *, videos: int, frames: int, truths: int, predictions: int, size_hw: tuple[int, int]
) -> None:
    """Write gt.json and pred.json of YouTube-VIS; tracks drift, and one in four is out of sight for a while."""
    generator = np.random.default_rng(0)
    annotations = []
    with YtvisWriter(folder / "pred.json") as writer:
        for video_id in range(1, videos + 1):
            boxes = draw_boxes(generator, truths, size_hw)
            drifts = generator.normal(0, 2, (truths, 2))
            for box, drift in zip(boxes, drifts):
                segmentations, areas = track(generator, box, drift, frames, size_hw)
                annotation = {"id": len(annotations) + 1, "video_id": video_id, "category_id": 1, "iscrowd": 0}
                annotations.append(annotation | {"segmentations": segmentations, "areas": areas})
            for index, (box, score) in enumerate(near(generator, boxes, predictions, size_hw)):
                segmentations, _ = track(generator, box, drifts[index // 2 % truths], frames, size_hw)
                writer.write(video_id, category_id=1, score=score, segmentations=segmentations)
    size = {"height": size_hw[0], "width": size_hw[1], "length": frames}
    listed = [{"id": one} | size for one in range(1, videos + 1)]
    (folder / "gt.json").write_text(
        json.dumps({"videos": listed, "categories": [CATEGORY], "annotations": annotations})
    )


def draw_boxes(generator: np.random.Generator, count: int, size_hw: tuple[int, int]) -> np.ndarray:
    """Boxes x, y, width, height [N,4]: sides from a twentieth to more than half of the image, most of them short.

    The sides are spread evenly over this range in every set of boxes, so that images and videos cost about the same.
    """
    size_wh = np.array(size_hw[::-1])
    places = np.stack([generator.permutation(count) for _ in range(2)], axis=1)
    share = (places + generator.uniform(0, 1, (count, 2))) / count
    sides = size_wh * np.exp(np.log(0.05) + share * np.log(0.6 / 0.05))
    return np.concatenate([generator.uniform(0, 1, (count, 2)) * (size_wh - sides), sides], axis=1)


def near(
    generator: np.random.Generator, boxes: np.ndarray, count: int, size_hw: tuple[int, int]
) -> Iterator[tuple[np.ndarray, float]]:
    """Boxes of predictions and their scores: one in two is about a ground truth, the others are anywhere."""
    others = draw_boxes(generator, count, size_hw)
    for index in range(count):
        score = round(float(generator.uniform()), 4)
        if index % 2:
            yield others[index], score / 2
            continue
        box = boxes[index // 2 % len(boxes)]
        yield box + generator.normal(0, BOX_NOISE, 4) * np.tile(box[2:], 2), score


def track(
    generator: np.random.Generator, box: np.ndarray, drift: np.ndarray, frames: int, size_hw: tuple[int, int]
) -> tuple[list[dict | None], list[int | None]]:
    """The RLEs of a blob that drifts by so many pixels a frame, and their areas; None where it is out of sight."""
    hidden = range(0)
    if generator.uniform() < 0.25:
        first = int(generator.integers(frames))
        hidden = range(first, first + frames // 3)
    moved = np.concatenate([drift, [0, 0]])
    seen = [None if one in hidden else blob(generator, box + one * moved, size_hw) for one in range(frames)]
    return [None if one is None else one[0] for one in seen], [None if one is None else one[1] for one in seen]


def blob(generator: np.random.Generator, box: np.ndarray, size_hw: tuple[int, int]) -> tuple[dict, int]:
    """A compressed RLE of an ellipse with a rough outline in the box x, y, width, height, and its area."""
    height, width = size_hw
    x, y, w, h = box
    first = int(np.clip(x, 0, width - 2))
    last = int(np.clip(x + max(w, 2), first + 1, width))
    columns = np.arange(first, last)
    reach = np.sqrt(np.clip(1 - ((columns + 0.5 - x) / max(w, 2) * 2 - 1) ** 2, 0.02, None)) * max(h, 4) / 2
    rough = np.rint(generator.normal(0, 0.7, (2, columns.size)))
    top = np.clip(np.rint(y + h / 2 - reach) + rough[0], 0, height - 1).astype(np.int64)
    bottom = np.clip(np.rint(y + h / 2 + reach) + rough[1], top + 1, height).astype(np.int64)
    return encode(columns * height + top, columns * height + bottom, size_hw), int((bottom - top).sum())


def encode(starts: np.ndarray, ends: np.ndarray, size_hw: tuple[int, int]) -> dict:
    """A compressed RLE of the pixels [start, end), counted column by column; runs that touch become one."""
    apart = starts[1:] != ends[:-1]
    edges = np.stack([starts[np.r_[True, apart]], ends[np.r_[apart, True]]], axis=1).reshape(-1)  # [R,2] -> [2R]
    counts = np.diff(edges, prepend=0, append=size_hw[0] * size_hw[1])
    counts = counts[:-1] if counts[-1] == 0 else counts
    encoded = coco_mask.frPyObjects({"size": list(size_hw), "counts": counts.tolist()}, *size_hw)
    return {"size": list(size_hw), "counts": encoded["counts"].decode("ascii")}
