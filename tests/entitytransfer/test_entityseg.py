"""Reading EntitySeg: every task, split and resolution of the tiny tree, and what is refused."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from cropformer import Cut, InputError, cut_masks, rle
from entitytransfer.classes import ENTITY
from entitytransfer.datasets import bind_function, entityseg, open_dataset

from .entityseg_tree import CLASSES, make_entityseg_tree

SIZE_HW = (96, 128)
ENTITIES = Path("entityseg/annotations/entity_segmentation")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return make_entityseg_tree(tmp_path_factory.mktemp("datasets"), size_hw=SIZE_HW)


@pytest.fixture
def copy(tree, tmp_path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "copy"))


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(("task", "split", "resolution"), entityseg.CHOICES)
def test_everything_published_can_be_read(tree, task, split, resolution):
    samples = entityseg.read(tree, split=split, task=task, resolution=resolution)
    assert len(samples) > 0
    for sample in samples:
        size_hw = SIZE_HW if resolution == "high" else (48, 64)
        masks, labels = sample.entity_masks(), sample.labels()
        assert sample.size_hw == size_hw
        assert sample.read_frame().shape == (*size_hw, 3)
        assert masks.shape == (len(labels), *size_hw)
        assert masks.sum(axis=0).max() == 1  # no two entities overlap
        assert masks.any(axis=(1, 2)).all()
        assert sample.exhaustive
        assert labels.any() == (task != "entity")
        assert [rle.area(encoded) for encoded in sample.entity_rles()] == masks.sum(axis=(1, 2)).tolist()


@pytest.mark.parametrize("task", ["entity", "instance", "semantic", "panoptic"])
def test_a_view_cut_from_the_annotation_is_the_view_cut_from_its_masks(tree, task):
    cut = Cut((10, 4, 100, 80), (41, 57), (5, 3, 50, 40), flip=True)
    for sample in entityseg.read(tree, task=task):
        (shown,) = sample.cut_masks([cut])
        np.testing.assert_array_equal(shown, cut_masks(sample.entity_masks(), cut))


def test_the_parts_together_are_the_training_split(tree):
    parts = [entityseg.read(tree, split=f"train_0{number}") for number in (1, 2, 3)]
    paths = {sample.image_path for part in parts for sample in part}
    assert [len(part) for part in parts] == [2, 1, 1]
    assert paths == {sample.image_path for sample in entityseg.read(tree)}


def test_low_resolution_training_images_are_not_those_of_validation(tree):
    train, val = (
        {sample.image_path.name for sample in entityseg.read(tree, split=split, resolution="low")}
        for split in ("train", "val")
    )
    assert len(train) == 4
    assert not train & val


def test_the_tasks_tell_the_same_regions(tree):
    read = {task: entityseg.read(tree, task=task) for task in ("instance", "semantic", "panoptic")}
    for instance, semantic, panoptic in zip(*read.values(), strict=True):
        np.testing.assert_array_equal(instance.entity_masks(), panoptic.entity_masks())
        assert instance.labels().tolist() == panoptic.labels().tolist()
        assert semantic.labels().tolist() == sorted(set(instance.labels().tolist()))
        for label, region in zip(semantic.labels(), semantic.entity_masks()):
            same = instance.entity_masks()[instance.labels() == label]
            np.testing.assert_array_equal(region, same.any(axis=0))
    assert len(read["semantic"][0].labels()) < len(read["instance"][0].labels())  # two regions of one class are one


def test_labels_follow_the_category_ids(copy):
    path = copy / "entityseg/annotations/instance_segmentation/entityv2_01_instances_train.json"
    before = entityseg.read(copy, task="instance")[0].labels()

    def spread(content):
        content["categories"] = [{"id": 10 * entry["id"]} for entry in reversed(content["categories"])]
        for entry in content["annotations"]:
            entry["category_id"] *= 10

    edit(path, spread)
    assert entityseg.read(copy, task="instance")[0].labels().tolist() == before.tolist()


def test_classes_are_those_that_the_files_list(copy):
    (path,) = (copy / "entityseg/annotations/panoptic_segmentation").glob("*_train.json")
    edit(path, lambda content: content["categories"][3].update(name="sky", type="stuff"))
    classes = entityseg.read(copy, task="panoptic").classes
    assert (classes.names[3], classes.category_ids[3], classes.is_thing[3]) == ("sky", 4, False)
    assert sum(classes.is_thing) == len(classes) - 1 == CLASSES["panoptic"] - 1
    assert entityseg.read(copy, task="instance").classes.names[:2] == ("instances class 0", "instances class 1")
    assert entityseg.read(copy).classes == ENTITY


def test_semantic_classes_are_called_by_their_numbers(tree):
    classes = entityseg.read(tree, task="semantic").classes
    assert classes.names == tuple(map(str, range(150))) == tuple(map(str, classes.category_ids))
    assert not any(classes.is_thing)


def test_an_adapter_has_the_head_of_its_task(tree):
    for task in ("entity", "instance", "semantic", "panoptic"):
        adapter = entityseg.adapter(task=task)
        assert adapter.build_head(adapter.read(tree, task=task).classes).task == task
    with pytest.raises(InputError, match="EntitySeg has no task=recall; choose task= from entity, instance"):
        entityseg.adapter(task="recall")


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_more_categories_than_classes_are_refused(copy, task):
    (path,) = (copy / f"entityseg/annotations/{task}_segmentation").glob("*_train.json")
    edit(path, lambda content: content["categories"].append({"id": 5000}))
    number = CLASSES["instances" if task == "instance" else task]
    with pytest.raises(InputError, match=f"lists {number + 1} categories, but EntitySeg has {number}"):
        entityseg.read(copy, task=task)


def test_the_root_may_be_the_folder_itself(tree):
    inner, outer = entityseg.read(tree / "entityseg"), entityseg.read(tree)
    assert [sample.image_path for sample in inner] == [sample.image_path for sample in outer]


def test_names_without_a_folder_are_found_too(copy):
    def strip(content):
        for image in content["images"]:
            image["file_name"] = Path(image["file_name"]).name

    for name in ("entityv2_010203_entity_train.json", "entityv2_010203_entity_train_lr.json"):
        edit(copy / ENTITIES / name, strip)
    for resolution in ("high", "low"):
        for sample in entityseg.read(copy, resolution=resolution):
            assert sample.read_frame().shape[:2] == sample.size_hw


def test_names_with_a_folder_are_found_in_one_part_too(copy):
    def qualify(content):
        for image in content["images"]:
            image["file_name"] = f"entity_02_11598/{image['file_name']}"

    edit(copy / ENTITIES / "entityv2_02_entity_train.json", qualify)
    (sample,) = entityseg.read(copy, split="train_02")
    assert sample.read_frame().shape[:2] == SIZE_HW


@pytest.mark.parametrize("task", ["entity", "semantic"])
def test_samples_travel_to_workers(tree, task):
    samples = entityseg.read(tree, task=task)
    for here, there in zip(samples, pickle.loads(pickle.dumps(samples)), strict=True):
        np.testing.assert_array_equal(here.entity_masks(), there.entity_masks())
    assert [sample.image_id for sample in samples[1:]] == [sample.image_id for sample in samples][1:]


@pytest.mark.parametrize(
    "choice",
    [
        {"task": "semantic", "resolution": "low"},
        {"split": "train_01", "resolution": "low"},
        {"split": "test"},
        {"task": "things"},
    ],
)
def test_what_is_not_published_is_refused(tree, choice):
    with pytest.raises(InputError, match="EntitySeg has no .*; choose task= from entity, instance"):
        entityseg.read(tree, **choice)


def test_a_missing_annotation_file_says_how_to_get_it(copy):
    shutil.rmtree(copy / ENTITIES)
    with pytest.raises(InputError, match=r"no .*entity_train\.json\. Download the annotations .* no commercial use"):
        entityseg.read(copy)
    with pytest.raises(InputError, match=r"entity_train_lr\.json\. Make .* python -m tools\.make_low_res .*entityseg"):
        entityseg.read(copy, resolution="low")


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path} holds no EntitySeg: there is neither"):
        entityseg.read(tmp_path)


def test_a_line_of_the_semantic_list_that_is_no_pair_is_named(copy):
    (copy / "entityseg/annotations/semantic_segmentation/train.txt").write_text("a.jpg a.png\nb.jpg\n")
    with pytest.raises(InputError, match=r"train\.txt, line 2 is not an image and its map"):
        entityseg.read(copy, task="semantic")


# --- datasets by name


def test_a_dataset_is_found_by_its_name_or_path():
    assert open_dataset("entityseg") is entityseg
    assert open_dataset("entitytransfer.datasets.entityseg") is entityseg


@pytest.mark.parametrize("name", ["entity", "nowhere.at.all", "", "..os", "a/b"])
def test_an_unknown_dataset_lists_those_that_exist(name):
    with pytest.raises(InputError, match=r"no dataset .*; choose one of .*coco, .*entityseg.* dotted path"):
        open_dataset(name)


def test_a_module_that_lacks_a_library_says_so_itself(tmp_path, monkeypatch):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "cards.py").write_text("import a_library_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_library_that_nobody_has"):
        open_dataset("pack.cards")


def test_settings_become_arguments(tree):
    settings = {"dataset": "entityseg", "root": str(tree), "split": "val"}
    assert len(bind_function(settings, "read")()) == 2


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"root": "x"}, "Say dataset=..."),
        ({"dataset": "coco"}, "Say root=..."),
        (
            {"dataset": "coco", "root": "x", "splt": "val"},
            "has no setting splt=; choose from split, task, annotations, panoptic",
        ),
        ({"dataset": "json.decoder", "root": "x"}, "json.decoder has no function read"),
    ],
)
def test_settings_that_make_no_sense(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        bind_function(settings, "read")
