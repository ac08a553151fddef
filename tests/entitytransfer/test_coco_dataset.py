"""Opening a COCO-format folder: which annotation is taken, what counts as exhaustive, and what is missing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cropformer import InputError
from entitytransfer.classes import ENTITY, Classes
from entitytransfer.datasets import coco
from entitytransfer.doctor import Finding, is_healthy

from .coco_tree import make_coco_tree

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"


@pytest.fixture
def root(tmp_path):
    return Path(shutil.copytree(TINY, tmp_path / "set"))


def test_every_photo_decodes_with_its_masks():
    samples = coco.read(TINY)
    assert len(samples) == 4
    for sample in samples:
        masks = sample.entity_masks()
        assert sample.read_frame().shape == (*sample.size_hw, 3)
        assert masks.shape == (len(sample.labels()), *sample.size_hw)
        assert masks.any(axis=(1, 2)).all()
        assert not sample.labels().any()


def test_panoptic_is_preferred_and_exhaustive(root):
    assert all(sample.exhaustive for sample in coco.read(root))
    assert not any(sample.exhaustive for sample in coco.read(root, panoptic="panoptic.json", exhaustive=False))


def test_instances_are_partial_unless_told(root):
    assert not any(sample.exhaustive for sample in coco.read(root, annotations="instances.json"))
    assert all(sample.exhaustive for sample in coco.read(root, annotations="instances.json", exhaustive=True))


def test_both_annotations_hold_the_same_entities(root):
    instances = coco.read(root, annotations="instances.json")
    for left, right in zip(coco.read(root), instances, strict=True):
        assert (left.image_id, left.image_path) == (right.image_id, right.image_path)
        np.testing.assert_array_equal(left.entity_masks(), right.entity_masks())


@pytest.mark.parametrize("name", ["instances.json", "entities.json"])
def test_instance_file_is_found_by_its_name(root, name):
    (root / "panoptic.json").unlink()
    if name != "instances.json":
        (root / "instances.json").rename(root / name)
    (first, *_) = coco.read(root)
    assert first.annotation.source == root / name


def test_absolute_paths_and_other_folders(root, tmp_path):
    images, annotations = tmp_path / "photos", tmp_path / "other.json"
    (root / "images").rename(images)
    (root / "instances.json").rename(annotations)
    for sample in coco.read(root, annotations=annotations, images=images):
        assert sample.read_frame().shape[2] == 3


def test_image_sizes_in_the_file_are_checked(root):
    content = json.loads((root / "panoptic.json").read_text())
    content["images"][0]["height"] += 1
    (root / "panoptic.json").write_text(json.dumps(content))
    (first, *_) = coco.read(root)
    with pytest.raises(InputError, match="its annotation says"):
        first.read_frame()
    with pytest.raises(InputError, match="put back the original PNG"):
        first.entity_masks()


@pytest.mark.parametrize("missing", ["images", "panoptic"])
def test_missing_folder_is_named(root, missing):
    shutil.rmtree(root / missing)
    with pytest.raises(InputError, match=rf"no folder .*{missing}\. .* with {missing}="):
        coco.read(root)


def test_a_root_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="There is no folder .*nowhere; check the path"):
        coco.read(tmp_path / "nowhere")


def test_folder_without_annotations_says_what_it_looked_for(root):
    for path in root.glob("*.json"):
        path.unlink()
    with pytest.raises(InputError, match=r"none of panoptic\.json, instances\.json, entities\.json"):
        coco.read(root)


def test_two_annotations_are_refused(root):
    with pytest.raises(InputError, match="not both"):
        coco.read(root, annotations="instances.json", panoptic="panoptic.json")


# --- classes of other sets


def add_categories(root: Path) -> None:
    """Give the instance file the categories of the panoptic one."""
    panoptic = json.loads((root / "panoptic.json").read_text())
    content = json.loads((root / "instances.json").read_text())
    of_image = {
        entry["image_id"]: [s["category_id"] for s in entry["segments_info"]] for entry in panoptic["annotations"]
    }
    for entry in content["annotations"]:
        entry["category_id"] = of_image[entry["image_id"]].pop(0)
    content["categories"] = panoptic["categories"]
    (root / "instances.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "choice", [{"task": "panoptic"}, {"task": "panoptic", "panoptic": "panoptic.json"}, {"task": "instance"}]
)
def test_a_set_of_ones_own_has_the_classes_of_its_file(root, choice):
    add_categories(root)
    samples = coco.read(root, **choice)
    assert isinstance(samples.classes, Classes)
    assert len(samples.classes) == 33
    assert list(samples.classes.category_ids) == sorted(samples.classes.category_ids)
    sky = samples.classes.names.index("sky-other-merged")
    assert (samples.classes.category_ids[sky], samples.classes.is_thing[sky]) == (187, False)
    assert all(sample.exhaustive for sample in samples)
    assert samples[0].labels().tolist() == [samples.classes.labels()[category] for category in (1, 35, 159, 187)]


def test_entities_have_one_class_whatever_the_file_lists(root):
    add_categories(root)
    assert coco.read(root).classes is coco.read(root, annotations="instances.json").classes is ENTITY


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"task": "boxes"}, "COCO has no task=boxes; choose from entity, instance, panoptic"),
        ({"split": "test"}, "COCO 2017 has no split=test with annotations; choose from train, val"),
        ({"split": "val", "annotations": "instances.json"}, "leave out annotations=, panoptic= and images="),
        ({"task": "instance", "panoptic": "panoptic.json"}, "needs a COCO-instance file; name it with annotations="),
        ({"task": "panoptic", "annotations": "instances.json"}, "needs a COCO-panoptic file; name it with panoptic="),
    ],
)
def test_choices_that_make_no_sense(root, choice, sentence):
    with pytest.raises(InputError, match=sentence):
        coco.read(root, **choice)


def test_classes_must_be_listed(root):
    content = json.loads((root / "instances.json").read_text())
    del content["categories"]
    (root / "instances.json").write_text(json.dumps(content))
    assert len(coco.read(root, annotations="instances.json")) == 4
    with pytest.raises(InputError, match=r"instances\.json lists no categories; add them, or read it with task=entity"):
        coco.read(root, task="instance")
    (sentence,) = told(coco.examine(root, task="instance"), "broken")
    assert "lists no categories" in sentence


def test_categories_that_are_used_but_not_listed(root):
    content = json.loads((root / "panoptic.json").read_text())
    content["categories"] = content["categories"][1:]
    (root / "panoptic.json").write_text(json.dumps(content))
    assert len(coco.read(root)) == 4
    with pytest.raises(InputError, match=r"panoptic\.json has segments of category 1, which is none of the 32 known"):
        coco.read(root, task="panoptic")
    (sentence,) = told(coco.examine(root, task="panoptic"), "broken")
    assert "segments of category 1" in sentence
    assert is_healthy(coco.examine(root))


# --- COCO 2017


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return make_coco_tree(tmp_path_factory.mktemp("coco"))


def told(findings, level: str) -> list[str]:
    """What findings of a level say, with what they advise."""
    return [f"{finding.what} > {finding.fix}" for finding in findings if finding.level == level]


@pytest.mark.parametrize("task", ["entity", "instance", "panoptic"])
@pytest.mark.parametrize(("split", "images"), [("train", 4), ("val", 2)])
def test_every_split_and_task_of_the_official_layout(published, split, images, task):
    samples = coco.read(published, split=split, task=task)
    assert len(samples) == images
    for sample in samples:
        assert sample.image_path.parent == published / f"{split}2017"
        assert sample.read_frame().shape == (*sample.size_hw, 3)
        assert sample.entity_masks().shape == (len(sample.labels()), *sample.size_hw)
        assert sample.exhaustive
        assert (sample.labels() < len(samples.classes)).all()


def test_entities_are_the_panoptic_segments(published):
    entities, segments, instances = (
        coco.read(published, split="train", task=t) for t in ("entity", "panoptic", "instance")
    )
    assert entities.classes is ENTITY
    assert (len(segments.classes), len(instances.classes)) == (33, sum(segments.classes.is_thing))
    for entity, segment, instance in zip(entities, segments, instances, strict=True):
        np.testing.assert_array_equal(entity.entity_masks(), segment.entity_masks())
        things = np.array(segments.classes.is_thing)[segment.labels()]
        np.testing.assert_array_equal(instance.entity_masks(), segment.entity_masks()[things])


def test_the_official_layout_wants_a_split(published):
    with pytest.raises(InputError, match="looks like COCO 2017; say split=train or split=val"):
        coco.read(published)


@pytest.fixture
def copy(published, tmp_path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "coco"))


@pytest.mark.parametrize(
    ("missing", "task", "sentence"),
    [
        (
            "annotations/instances_val2017.json",
            "instance",
            r"instances_val2017\.json\. Download annotations_trainval2017",
        ),
        ("annotations/panoptic_val2017.json", "entity", r"\.json\. Download panoptic_annotations_trainval2017"),
        ("annotations/panoptic_val2017", "entity", r"no folder .*panoptic_val2017\. Download panoptic_annotations"),
        ("val2017", "instance", r"no folder .*val2017\. Download val2017\.zip of COCO \(annotations: CC BY 4\.0"),
    ],
)
def test_what_is_missing_of_coco_says_what_to_download(copy, missing, task, sentence):
    path = copy / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match=sentence):
        coco.read(copy, split="val", task=task)
    (finding,) = [f for f in coco.examine(copy, split="val", task=task) if f.level == "missing"]
    assert finding.what.startswith("no ")
    assert "Flickr" in finding.fix


def test_the_archive_in_the_archive_is_to_be_unpacked_too(copy):
    folder = copy / "annotations" / "panoptic_val2017"
    shutil.rmtree(folder)
    folder.with_suffix(".zip").touch()
    with pytest.raises(InputError, match=r"Unpack .*panoptic_val2017\.zip where it is"):
        coco.read(copy, split="val")


def test_a_healthy_coco_is_counted(published):
    findings: list[Finding] = list(coco.examine(published))
    assert is_healthy(findings)
    counts = [finding.what.split(",")[0] for finding in findings if finding.level == "ok"]
    assert counts == [
        "train instance: 4 images",
        "train panoptic: 4 images",
        "val instance: 2 images",
        "val panoptic: 2 images",
    ]
    notes = told(findings, "note")
    assert any(note.startswith("2 images in val2017, where 5,000 are published") for note in notes)
    assert any("33 category ids listed, but the published file has 133" in note for note in notes)


def test_damaged_files_of_coco_are_counted(copy):
    first, second = sorted((copy / "train2017").iterdir())[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:500])
    (copy / "annotations/panoptic_train2017/000000000003.png").write_bytes(b"")
    sentences = told(coco.examine(copy, split="train", task="panoptic"), "broken")
    assert [sentence.split(":")[0] for sentence in sentences] == ["1 image unreadable", "1 broken map"]
    (missing,) = told(coco.examine(copy, split="train", task="panoptic"), "missing")
    assert missing.startswith(
        "1 image of 4 in panoptic_train2017.json missing: 000000000001.jpg > Download train2017.zip"
    )
