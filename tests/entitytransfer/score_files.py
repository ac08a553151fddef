"""Small COCO and YouTube-VIS files that tests spoil before they score them."""

import json

import numpy as np
import pytest

from cropformer import InputError, rle
from entitytransfer.score_task import score

H, W, FRAMES = 12, 16, 2


def encoded(x0, x1, size_hw=(H, W)):
    mask = np.zeros(size_hw, dtype=bool)
    mask[2:9, x0:x1] = True
    return rle.encode(mask)


def coco():
    annotation = {"id": 1, "image_id": "a", "category_id": 3, "iscrowd": 0, "area": 35, "bbox": [1, 2, 5, 7]}
    truth = {
        "images": [{"id": name, "height": H, "width": W} for name in ("a", "b")],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            annotation | {"segmentation": encoded(1, 6)},
            annotation | {"id": 2, "image_id": "b", "segmentation": [[1, 1, 9, 1, 9, 9]]},
        ],
    }
    results = [
        {"image_id": "a", "category_id": 3, "score": 0.9, "segmentation": encoded(1, 6)},
        {"image_id": "b", "category_id": 7, "score": 0.4, "segmentation": encoded(0, 3)},
    ]
    return truth, results


def ytvis():
    segmentations = [encoded(1, 6), None]
    track = {
        "id": 1,
        "video_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "areas": [35, None],
        "bboxes": [[1, 2, 5, 7], None],
    }
    truth = {
        "videos": [{"id": 1, "height": H, "width": W, "length": FRAMES, "file_names": ["0.jpg", "1.jpg"]}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [track | {"segmentations": segmentations}],
    }
    results = [{"video_id": 1, "category_id": 1, "score": 0.5, "segmentations": segmentations}]
    return truth, results


class Files:
    """A ground truth and a result file that can be spoilt before they are scored."""

    def __init__(self, folder, make):
        self.truth_path, self.results_path = folder / "gt.json", folder / "pred.json"
        self.truth, self.results = make()

    def score(self, task, **options):
        self.truth_path.write_text(json.dumps(self.truth))
        self.results_path.write_text(json.dumps(self.results))
        return score(task, ground_truth=self.truth_path, predictions=self.results_path, **options)

    def sentence(self, task, **options):
        with pytest.raises(InputError) as raised:
            self.score(task, **options)
        return str(raised.value)
