"""Small panoptic clips of chance, and COCO-panoptic and VIPSeg files that tests spoil before they score them."""

import json
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from cropformer import InputError
from entitytransfer.readers.panoptic_png import colors_of_ids
from entitytransfer.score_task import score
from entitytransfer.segment_map import SegmentMap, Segments

NUM_CLASSES = 3
CATEGORIES = [{"id": 10 + number, "name": str(number), "isthing": int(number != 1)} for number in range(NUM_CLASSES)]
MAP = np.repeat(np.repeat([[0, 7, 7], [300, 300, 70000]], 4, axis=0), 5, axis=1)  # int [8,15]
CLASSES = {7: 10, 300: 11, 70000: 12}


def segments_of(ids, classes, areas=None, crowds=()):
    listed = [segment_id for segment_id in np.unique(ids).tolist() if segment_id]
    return Segments(
        ids=np.array(listed, dtype=np.int64),
        classes=np.array([classes[segment_id] for segment_id in listed], dtype=np.int64),
        areas=np.array([(ids == one).sum() + (areas or {}).get(one, 0) for one in listed], dtype=np.float64),
        is_crowd=np.array([segment_id in crowds for segment_id in listed], dtype=bool),
    )


@st.composite
def clips(draw):
    """Frames of true and predicted maps: VOID, crowds, hidden area, ids that come, go and change their class."""
    seed, frames = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 4))
    generator = np.random.default_rng(seed)
    shape = (int(generator.integers(1, 5)), int(generator.integers(1, 6)))
    crowds = set(generator.choice(np.arange(1, 6), size=generator.integers(0, 4)).tolist())
    true_classes = dict(enumerate(generator.integers(0, NUM_CLASSES, 6).tolist()))
    truths, predictions = [], []
    for _ in range(frames):
        ids = generator.integers(0, 6, shape).repeat(3, axis=1)
        hidden = dict(enumerate(generator.integers(0, 3, 6).tolist()))
        truths.append(SegmentMap(ids, segments_of(ids, true_classes, hidden, crowds), "truth"))
        found = np.where(generator.random(ids.shape) < 0.8, ids, generator.integers(0, 6, ids.shape))
        changed = generator.random() < 0.2
        classes = {one: (number + (changed and one == 2)) % NUM_CLASSES for one, number in true_classes.items()}
        predictions.append(SegmentMap(found, segments_of(found, classes), "prediction"))
    return truths, predictions


def describe(ids, classes):
    return [
        {"id": one, "category_id": category, "area": int((ids == one).sum()), "iscrowd": 0}
        for one, category in classes.items()
    ]


def save(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colors_of_ids(ids)).save(path)


class PanopticFiles:
    """Two equal frames as ground truth and results, as images (panoptic) or as one video (vipseg)."""

    def __init__(self, folder, task):
        self.folder, self.task = folder, task
        for kind in ("gt", "pred"):
            for name in ("a", "b"):
                save(self.png(kind, name), MAP)
        self.truth = deepcopy(self.images() if task == "panoptic" else self.video())
        self.results = {"annotations": deepcopy(self.truth["annotations"])}

    def png(self, kind, name):
        return self.folder / kind / ("" if self.task == "panoptic" else "v") / f"{name}.png"

    @staticmethod
    def frames():
        sizes = [{"id": name, "file_name": f"{name}.png", "height": 8, "width": 15} for name in ("a", "b")]
        listed = [
            {"image_id": name, "file_name": f"{name}.png", "segments_info": describe(MAP, CLASSES)} for name in "ab"
        ]
        return sizes, listed

    def images(self):
        sizes, listed = self.frames()
        return {"images": sizes, "annotations": listed, "categories": CATEGORIES}

    def video(self):
        sizes, listed = self.frames()
        return {
            "videos": [{"video_id": "v", "images": sizes}],
            "annotations": [{"video_id": "v", "annotations": listed}],
            "categories": CATEGORIES,
        }

    def frame(self, content, index=1):
        """One frame of the ground truth or the results."""
        listed = content["annotations"]
        return (listed if self.task == "panoptic" else listed[0]["annotations"])[index]

    def score(self, **options):
        for name, content in (("gt", self.truth), ("pred", self.results)):
            (self.folder / f"{name}.json").write_text(json.dumps(content))
        paths = {f"{kind}_dir": self.folder / kind for kind in ("gt", "pred")}
        files = {"ground_truth": self.folder / "gt.json", "predictions": self.folder / "pred.json"}
        return score(self.task, **files, **paths, **options)

    def sentence(self, **options):
        with pytest.raises(InputError) as raised:
            self.score(**options)
        return str(raised.value)
