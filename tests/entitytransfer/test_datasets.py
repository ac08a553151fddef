"""One contract for every file in datasets/: what is read agrees with itself, and the four parts of an adapter fit.

Those of clips are in ``test_clip_datasets``.
"""

import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cropformer import Cut, Entities, InputError, cut_masks, rle
from entitytransfer.adapter import Sample
from entitytransfer.datasets import ade20k, open_adapter, open_dataset
from entitytransfer.doctor import as_lines, is_healthy

from .ade20k_tree import make_ade20k_tree
from .clip_trees import make_uvo_tree
from .coco_tree import make_coco_tree
from .entityseg_tree import make_entityseg_tree
from .zero_shot_trees import PHOTOS, make_camo_tree, make_dis5k_tree, make_fss_tree, make_lvis_tree, make_ocid_tree

METRICS = {"entity": "AP", "instance": "AP", "panoptic": "PQ", "semantic": "mIoU"}
COCO_TASKS = ("entity", "instance", "panoptic")
BEST = {"AP": 1, "AR@100_50:95": 1, "PQ": 1, "mIoU": 1, "maxF": 1, "MAE": 0}


@dataclass(frozen=True)
class Case:
    """A dataset as it can be opened: how its tree is made, the options, and the metric that perfection makes best."""

    name: str
    make: Callable[[Path], Path]
    metric: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.make.__name__.removeprefix("make_"), *map(str, self.options.values())])


def make_coco_folder(root: Path) -> Path:
    """A set in COCO's format that has a layout of its own."""
    return Path(shutil.copytree(PHOTOS, root / "coco"))


def make_prepared_ade20k_tree(root: Path) -> Path:
    make_ade20k_tree(root)
    assert list(ade20k.prepare(root))
    return root


def make_camo_pp_tree(root: Path) -> Path:
    return make_camo_tree(root, version="camo++")


def make_forkme_tree(root: Path) -> Path:
    """Two photos, each with two classes and a strip of pixels without one."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for photo in sorted((PHOTOS / "images").iterdir())[:2]:
        shutil.copy(photo, root / "images")
        with Image.open(photo) as file:
            width, height = file.size
        labels = np.repeat(np.arange(width) * 2 // width, height).reshape(width, height).T  # [W*H] -> [H,W]
        labels[:8] = 255
        Image.fromarray(labels.astype(np.uint8)).save(root / "labels" / f"{photo.stem}.png")
    (root / "classes.txt").write_text("left\nright\n")
    return root


CASES = [
    *(Case("ade20k", make_ade20k_tree, METRICS[task], {"task": task}) for task in METRICS),
    *(Case("ade20k", make_prepared_ade20k_tree, METRICS[task], {"task": task, "split": "val"}) for task in METRICS),
    *(Case("coco", make_coco_tree, METRICS[task], {"task": task, "split": "val"}) for task in COCO_TASKS),
    *(Case("coco", make_coco_folder, METRICS[task], {"task": task}) for task in COCO_TASKS),
    *(Case("entityseg", make_entityseg_tree, METRICS[task], {"task": task, "split": "val"}) for task in METRICS),
    Case("entityseg", make_entityseg_tree, "AP", {"resolution": "low"}),
    Case("dis5k", make_dis5k_tree, "maxF"),
    Case("dis5k", make_dis5k_tree, "MAE", {"split": "DIS-TE1,DIS-TE4"}),
    Case("lvis", make_lvis_tree, "AR@100_50:95"),
    Case("lvis", make_lvis_tree, "AR@100_50:95", {"split": "train"}),
    Case("ocid", make_ocid_tree, "AR@100_50:95"),
    Case("ocid", make_ocid_tree, "AR@100_50:95", {"supports": "keep", "subset": "ARID20"}),
    Case("camo", make_camo_tree, "AR@100_50:95"),
    Case("camo", make_camo_pp_tree, "AR@100_50:95", {"split": "train"}),
    Case("fss", make_fss_tree, "AR@100_50:95"),
    Case("fss", make_fss_tree, "AR@100_50:95", {"split": "all"}),
    Case("uvo", make_uvo_tree, "AP", {"kind": "frame"}),
    Case("uvo", make_uvo_tree, "AR@100_50:95", {"kind": "frame", "task": "recall", "split": "val"}),
    Case("forkme", make_forkme_tree, "mIoU"),
]


@pytest.fixture(params=CASES, ids=str)
def case(request) -> Case:
    return request.param


@pytest.fixture
def adapter(case):
    return open_adapter(case.name, case.options)


@pytest.fixture
def samples(case, adapter, trees):
    return adapter.read(trees(case), **case.options)


def test_samples_are_what_their_annotations_say(samples):
    assert len(samples) > 0
    assert len({sample.image_id for sample in samples}) == len(samples)
    for sample in samples:
        masks, labels = sample.entity_masks(), sample.labels()
        assert sample.read_frame().shape == (*sample.size_hw, 3)
        assert masks.shape == (len(labels), *sample.size_hw) and masks.dtype == bool and len(labels) > 0
        assert labels.dtype == np.int64 and labels.min() >= 0 and labels.max() < len(samples.classes)
        assert [rle.decode(one).tolist() for one in sample.entity_rles()] == masks.tolist()


def test_cuts_show_what_the_masks_hold(samples):
    sample = samples[0]
    height, width = sample.size_hw
    whole = Cut((0, 0, width, height), (height, width))
    part = Cut((8, 4, width - 3, height - 9), (37, 41), (3, 2, 30, 31), flip=True)
    masks = sample.entity_masks()
    shown = sample.cut_masks([whole, part])
    np.testing.assert_array_equal(shown[0], masks)
    np.testing.assert_array_equal(shown[1], cut_masks(masks, part))


def test_the_truth_holds_the_entities(samples):
    """Crowds come last, and whatever is no crowd is an entity."""
    for sample in samples:
        truth = sample.truth()
        kept = ~truth.is_crowd
        assert len(truth.rles) == len(truth.labels) == len(truth.areas) == len(truth.is_crowd)
        assert [one for one, keep in zip(truth.rles, kept) if keep] == sample.entity_rles()
        assert truth.labels[kept].tolist() == sample.labels().tolist()
        assert (truth.areas > 0).all()


def test_samples_travel_to_workers(samples):
    sent = pickle.loads(pickle.dumps(samples))
    assert sent.classes == samples.classes
    for here, there in zip(samples, sent, strict=True):
        assert (here.image_id, here.image_path, here.entity_rles()) == (
            there.image_id,
            there.image_path,
            there.entity_rles(),
        )
    assert [sample.image_id for sample in samples[1:]] == [sample.image_id for sample in samples][1:]


def test_classes_are_distinct(samples):
    classes = samples.classes
    assert len(classes.names) == len(classes.category_ids) == len(classes.is_thing)
    assert len(set(classes.category_ids)) == len(classes.category_ids)


def test_the_target_is_made_of_the_entities(adapter, samples):
    sample = samples[0]
    height, width = sample.size_hw
    cuts = [Cut((0, 0, width, height), (48, 64)), Cut((0, 0, width // 2, height // 2), (48, 64))]
    target = adapter.build_target(sample, cuts)
    assert [masks.shape for masks in target.masks] == [(len(target.labels), 48, 64)] * 2
    assert all(masks.dtype == bool for masks in target.masks)
    assert target.labels.max() < len(samples.classes)


def test_perfect_predictions_have_the_best_metric(case, adapter, samples):
    head, metric = adapter.build_head(samples.classes), adapter.build_evaluator(samples.classes)
    assert head.classes == samples.classes
    for sample in samples:
        metric.update(perfect(sample, task=head.task), sample)
    assert metric.compute()[case.metric] == pytest.approx(BEST[case.metric], abs=1e-6)
    metric.reset()
    for sample in samples:
        metric.update(nothing(sample, task=head.task), sample)
    assert abs(metric.compute()[case.metric] - BEST[case.metric]) > 0.01


def perfect(sample: Sample, *, task: str) -> Entities | np.ndarray:
    """What a head would say that knows everything."""
    if task == "dichotomous":
        return sample.entity_masks().any(axis=0).astype(np.uint8) * 255
    rles = sample.entity_rles()
    return Entities.from_rles(sample.size_hw, rles, np.linspace(1, 0.9, len(rles)), sample.labels())


def nothing(sample: Sample, *, task: str) -> Entities | np.ndarray:
    return np.zeros(sample.size_hw, np.uint8) if task == "dichotomous" else Entities.empty(sample.size_hw)


# --- the doctor, and what is refused


def examine(case: Case, root: Path, **options):
    known = {key: value for key, value in case.options.items() if key != "supports"}
    return list(open_dataset(case.name).examine(root, **known, **options))


@pytest.mark.parametrize("full", [False, True])
def test_an_intact_tree_is_healthy(case, trees, full):
    findings = examine(case, trees(case), full=full)
    assert is_healthy(findings), as_lines(findings)
    assert findings[-1].level == "ok" or any(finding.level == "ok" for finding in findings)


def test_an_empty_folder_says_what_is_missing(case, tmp_path):
    findings = examine(case, tmp_path)
    assert {finding.level for finding in findings} == {"missing"}
    assert all(finding.what and finding.fix.endswith(".") for finding in findings)


@pytest.mark.parametrize("place", ["empty", "nowhere"])
def test_a_wrong_root_is_refused_in_one_sentence(case, adapter, tmp_path, place):
    root = tmp_path / place
    if place == "empty":
        root.mkdir()
    with pytest.raises(InputError) as raised:
        adapter.read(root, **case.options)
    sentence = str(raised.value)
    assert str(root) in sentence and "\n" not in sentence and sentence.endswith(".")
