"""ADE20K: the same samples from raw and from prepared files, equal to the official ones, and what is refused."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import Cut, InputError, rle
from entitytransfer.adapter import SampleSet
from entitytransfer.datasets import ade20k
from entitytransfer.doctor import is_healthy
from entitytransfer.readers.ade20k_classes import categories, task_classes, things

from .ade20k_tree import make_ade20k_tree

OFFICIAL = Path(__file__).parents[1] / "data" / "metrics" / "ade20k"
HOME = Path("ADEChallengeData2016")
RAW = ("images", "annotations", "annotations_instance")
TASKS = ("semantic", "instance", "panoptic", "entity")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return make_ade20k_tree(tmp_path_factory.mktemp("datasets"))


@pytest.fixture
def root(tree, tmp_path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "copy"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """The official example without what the scripts made of it."""
    root = tmp_path_factory.mktemp("raw")
    for name in RAW:
        shutil.copytree(OFFICIAL / HOME / name, root / HOME / name)
    return root


def official(name: str) -> dict:
    return json.loads((OFFICIAL / HOME / name).read_text())


def check_same(samples: SampleSet, others: SampleSet) -> None:
    assert samples.classes == others.classes
    for one, other in zip(samples, others, strict=True):
        assert (one.image_id, one.size_hw, one.exhaustive) == (other.image_id, other.size_hw, other.exhaustive)
        assert one.image_path.name == other.image_path.name
        np.testing.assert_array_equal(one.entity_masks(), other.entity_masks())
        np.testing.assert_array_equal(one.labels(), other.labels())
        assert one.entity_rles() == other.entity_rles()
        for name in ("labels", "areas", "is_crowd"):
            mine, theirs = getattr(one.truth(), name), getattr(other.truth(), name)
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype
        assert one.truth().rles == other.truth().rles
        cut = Cut((3, 2, 43, 32), (15, 20), flip=True)
        np.testing.assert_array_equal(one.cut_masks([cut])[0], other.cut_masks([cut])[0])


# --- classes


def test_classes_are_those_of_the_official_files():
    listed = official("ade20k_panoptic_val.json")["categories"]
    assert [(c.category_id, c.name, c.instance_class > 0, list(c.color)) for c in categories()] == [
        (c["id"], c["name"].strip(), bool(c["isthing"]), c["color"]) for c in listed
    ]
    instances = official("ade20k_instance_val.json")["categories"]
    assert [(c.category_id, c.instance_name) for c in things()] == [(c["id"], c["name"]) for c in instances]
    assert [c.instance_class for c in things()] == list(range(1, 101))


def test_each_task_has_its_classes():
    assert [len(task_classes(task)) for task in TASKS] == [150, 100, 150, 1]
    assert sum(task_classes("panoptic").is_thing) == 100
    assert task_classes("instance").category_ids[:4] == (7, 8, 10, 12)
    assert task_classes("instance").labels()[43] == 24
    assert all(task_classes("instance").is_thing)


# --- raw, prepared and official


@pytest.mark.parametrize("task", TASKS)
def test_raw_and_official_files_give_the_same_samples(raw, task):
    samples = ade20k.read(raw, split="validation", task=task)
    assert [sample.image_id for sample in samples] == [f"ADE_val_{n:08d}" for n in (1, 2, 3, 4)]
    check_same(samples, ade20k.read(OFFICIAL, split="val", task=task))


@pytest.mark.parametrize("task", TASKS)
def test_prepared_files_give_the_same_samples(root, tree, task):
    list(ade20k.prepare(root))
    for split in ("training", "validation"):
        samples = ade20k.read(root, split=split, task=task)
        assert len(samples) == {"training": 4, "validation": 2}[split]
        check_same(samples, ade20k.read(tree, split=split, task=task))


def test_prepared_files_are_preferred(root):
    list(ade20k.prepare(root))
    for name in RAW[1:]:
        shutil.rmtree(root / HOME / name)
    for task in TASKS:
        assert all(sample.labels().size for sample in ade20k.read(root / HOME, task=task))


def test_samples_travel_by_pickling(raw):
    (sample, *_) = ade20k.read(raw, split="val", task="panoptic")
    copy = pickle.loads(pickle.dumps(sample))
    assert copy == sample
    assert copy.entity_rles() == sample.entity_rles()


def test_stuff_has_the_area_that_it_had_before_things_were_painted_over_it(raw):
    sample = ade20k.read(raw, split="val", task="panoptic")[3]
    truth = sample.truth()
    water = int(np.flatnonzero(truth.labels == 21)[0])
    assert (truth.areas[water], rle.area(truth.rles[water])) == (8400, 291)
    entities = ade20k.read(raw, split="val", task="entity")[3].truth()
    assert 291 in entities.areas.tolist()


def test_stuff_that_is_quite_hidden_is_a_segment_and_no_entity(root):
    path = root / HOME / "annotations/validation/ADE_val_00000001.png"
    hidden = Image.open(path.parents[2] / "annotations_instance/validation" / path.name)
    is_thing = np.asarray(hidden)[..., 1] == 1
    labels = np.asarray(Image.open(path)).copy()
    labels[is_thing] = 22  # water
    Image.fromarray(labels).save(path)
    segments = ade20k.read(root, split="val", task="panoptic")[0]
    entities = ade20k.read(root, split="val", task="entity")[0]
    truth = segments.truth()
    water = truth.labels.tolist().index(21)
    assert rle.area(truth.rles[water]) == 0 < truth.areas[water] == is_thing.sum()
    assert len(entities.labels()) == len(truth.labels) - 1
    assert all(map(rle.area, entities.entity_rles()))


def test_things_without_an_instance_are_void(root):
    name = "ADE_val_00000001.png"
    path = root / HOME / "annotations_instance/validation" / name
    instances = np.asarray(Image.open(path)).copy()
    gone = instances[..., 1] == 1
    instances[gone] = 0
    Image.fromarray(instances).save(path)
    masks = ade20k.read(root, split="val", task="panoptic")[0].entity_masks()
    assert not masks[:, gone].any()
    semantic = ade20k.read(root, split="val", task="semantic")[0]
    assert semantic.entity_masks()[:, gone].any()


# --- what is refused


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"split": "test"}, "ADE20K has no split=test with annotations; choose training or validation"),
        ({"task": "boxes"}, "ADE20K has no task=boxes; choose from entity, instance, panoptic, semantic"),
    ],
)
def test_choices_that_there_are_not(tree, choice, sentence):
    with pytest.raises(InputError, match=sentence):
        ade20k.read(tree, **choice)


def test_a_root_of_something_else_says_what_to_download(tmp_path):
    with pytest.raises(InputError, match=r"holds no ADE20K: .* Download ADEChallengeData2016\.zip"):
        ade20k.read(tmp_path)


def test_a_split_that_is_not_there(root):
    shutil.rmtree(root / HOME / "annotations/validation")
    with pytest.raises(InputError, match=r"no \*\.png in .*annotations/validation\. Download ADEChallengeData2016"):
        ade20k.read(root, split="val", task="semantic")


def test_the_second_archive_is_needed_for_instances_alone(root):
    shutil.rmtree(root / HOME / "annotations_instance")
    assert len(ade20k.read(root, task="semantic")) == 4
    with pytest.raises(InputError, match=r"annotations_instance/training\. Download annotations_instance\.tar"):
        ade20k.read(root, task="entity")


@pytest.mark.parametrize("kind", RAW)
def test_a_half_extracted_archive_is_found_out(root, kind):
    file = next((root / HOME / kind / "training").glob("ADE_train_00000003.*"))
    file.unlink()
    with pytest.raises(InputError, match=rf"{kind}/training lacks 1 of 4 files, such as {file.name}\. Download"):
        ade20k.read(root, task="instance")


def test_a_prepared_file_of_other_photos_is_refused(root):
    list(ade20k.prepare(root))
    (root / HOME / "images/training/ADE_train_00000002.jpg").unlink()
    for task in TASKS:
        with pytest.raises(InputError, match=r"images/training lacks 1 of 4 files, such as ADE_train_00000002\.jpg\."):
            ade20k.read(root, task=task)


@pytest.mark.parametrize(
    ("pixels", "sentence"),
    [
        (np.full((159, 240, 3), 101, np.uint8), "holds the class 101, but instances are of the classes 1 to 100"),
        (np.ones((10, 10, 3), np.uint8), r"height and width \(10, 10\) but its image \(159, 240\)"),
        (np.ones((159, 240), np.uint8), "has the mode L, but an instance map is RGB"),
    ],
)
def test_a_damaged_instance_map_is_named(root, pixels, sentence):
    Image.fromarray(pixels).save(root / HOME / "annotations_instance/training/ADE_train_00000001.png")
    sample = ade20k.read(root, task="panoptic")[0]
    with pytest.raises(InputError, match=f"ADE_train_00000001.png .*{sentence}"):
        sample.entity_masks()
    (finding,) = [f for f in ade20k.examine(root, split="train", task="panoptic") if f.level == "broken"]
    assert finding.what.startswith("1 broken map: ADE_train_00000001.png;")


def test_a_label_out_of_range_is_named(root):
    path = root / HOME / "annotations/training/ADE_train_00000001.png"
    Image.new("L", (240, 159), 151).save(path)
    with pytest.raises(InputError, match="holds the value 151, but the classes are 1 to 150 and 0 is ignored"):
        ade20k.read(root, task="semantic")[0].labels()


# --- doctor


def test_a_healthy_tree_is_counted(tree):
    findings = list(ade20k.examine(tree))
    assert is_healthy(findings)
    counts = [finding.what for finding in findings if finding.level == "ok"]
    assert [what.split(":")[0] for what in counts] == [
        f"{split} {kind}" for split in ("training", "validation") for kind in ("semantic", "instances")
    ]
    notes = [finding.what for finding in findings if finding.level == "note"]
    assert "4 images in images/training, where 20,210 are published" in notes


def test_a_prepared_tree_is_healthy_though_stuff_may_be_hidden(root):
    test_stuff_that_is_quite_hidden_is_a_segment_and_no_entity(root)
    list(ade20k.prepare(root))
    findings = list(ade20k.examine(root, split="val"))
    assert is_healthy(findings)
    assert [f.what.split(":")[0] for f in findings if f.level == "ok"][2:] == [
        "ade20k_entity_val",
        "ade20k_instance_val",
        "ade20k_panoptic_val",
    ]


def test_prepared_files_are_enough(root):
    list(ade20k.prepare(root))
    for name in RAW[1:]:
        shutil.rmtree(root / HOME / name)
    findings = list(ade20k.examine(root))
    assert is_healthy(findings)
    assert sum(finding.level == "ok" for finding in findings) == 2 * 4


def test_the_doctor_says_which_archive_is_missing(root):
    shutil.rmtree(root / HOME / "annotations_instance")
    shutil.rmtree(root / HOME / "annotations/validation")
    told = {finding.what: finding.fix for finding in ade20k.examine(root) if finding.level == "missing"}
    assert told.keys() == {
        "no map in annotations_instance/training",
        "no map in annotations_instance/validation",
        "no map in annotations/validation",
    }
    assert "its second archive" in told["no map in annotations_instance/training"]
    assert told["no map in annotations/validation"].startswith("Download ADEChallengeData2016.zip")


def test_the_doctor_knows_a_wrong_root(tmp_path):
    (finding,) = ade20k.examine(tmp_path)
    assert finding.level == "missing"
    assert "holds no ADE20K" in finding.what
    assert "for research, see its terms of use" in finding.fix


def test_the_doctor_counts_missing_photos_and_maps(root):
    (root / HOME / "images/training/ADE_train_00000002.jpg").unlink()
    (root / HOME / "annotations/training/ADE_train_00000003.png").unlink()
    Image.new("L", (240, 159), 151).save(root / HOME / "annotations/training/ADE_train_00000001.png")
    findings = list(ade20k.examine(root, split="train", task="semantic"))
    told = [finding.what for finding in findings if finding.level in {"missing", "broken"}]
    assert told[0] == "1 image of 4 in training missing: ADE_train_00000002.jpg"
    assert told[1] == "1 map of 4 in training missing: ADE_train_00000003.png"
    assert told[2].startswith("1 broken map: ADE_train_00000001.png;")
    assert "holds the value 151" in told[2]
