"""Reading LVIS: polygons on images of two COCO folders; what is said of a tree that is incomplete or damaged."""

import json
import shutil
from pathlib import Path

import pytest

from cropformer import InputError
from entitytransfer.datasets import lvis
from entitytransfer.doctor import is_healthy
from entitytransfer.readers.coco_results import read_coco_truth

from .zero_shot_checks import DATA, as_read, as_scored, told
from .zero_shot_trees import make_lvis_tree

FIXTURE = DATA / "lvis"
VAL = Path("annotations/lvis_v1_val.json")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return make_lvis_tree(tmp_path_factory.mktemp("sets"))


@pytest.fixture
def root(tree, tmp_path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "copy"))


def edit(root: Path, change) -> None:
    content = json.loads((root / VAL).read_text())
    change(content)
    (root / VAL).write_text(json.dumps(content))


def test_images_are_found_in_both_folders(tree):
    samples = lvis.read(tree)
    assert [sample.image_path.parent.name for sample in samples] == ["val2017", "val2017", "train2017"]
    assert [sample.image_id for sample in samples] == [785, 1268, 7574]
    assert not any(sample.exhaustive or sample.labels().any() for sample in samples)
    assert len(lvis.read(tree, split="train")) == 1


def test_the_image_folders_may_lie_elsewhere(root, tmp_path):
    before = [sample.image_path.name for sample in lvis.read(root)]
    (root / "coco/train2017").rename(root / "train2017")  # some of them in the root
    assert all(sample.image_path.is_file() for sample in lvis.read(root))
    (root / "train2017").rename(root / "coco/train2017")
    (root / "coco").rename(tmp_path / "photos")
    for images in (tmp_path / "photos", "../photos"):
        samples = lvis.read(root, images=images)
        assert all(sample.image_path.is_file() for sample in samples)
        assert [sample.image_path.name for sample in samples] == before
    (root / VAL).rename(root / VAL.name)
    assert len(lvis.read(root, images=tmp_path / "photos")) == 3


def test_the_masks_are_those_that_recall_counts():
    path = FIXTURE / "annotations/lvis_v1_val.json"
    samples, truth = lvis.read(FIXTURE), read_coco_truth(path)
    assert as_read(samples) == as_scored(truth)
    areas = [area for sample in samples for area in sample.truth().areas]
    assert sorted(areas) == sorted(one["area"] for one in truth.annotations(range(1, len(samples) + 1)))


# --- what is refused


def test_an_unknown_split_is_refused(tree):
    with pytest.raises(InputError, match="'split' must be one of train, val, not 'test'"):
        lvis.read(tree, split="test")


def test_missing_files_say_what_to_download(root):
    shutil.rmtree(root / "coco")
    with pytest.raises(
        InputError, match=r"neither train2017 nor val2017 in .*copy. Download .* name the folder .* with"
    ):
        lvis.read(root)
    (root / VAL).unlink()
    with pytest.raises(
        InputError, match=r"There is no .*lvis_v1_val.json. Download the annotations of LVIS v1 \(CC BY"
    ):
        lvis.read(root)


# --- the doctor


def test_a_healthy_tree_is_counted(tree):
    findings = list(lvis.examine(tree))
    assert is_healthy(findings)
    assert findings[-1].what == "LVIS val: 3 images, 42 entities (14.0 in an image, at most 19), categories: 2"
    images, categories = told(findings, "note")
    assert images.startswith("3 images in lvis_v1_val.json, where 19,809 are published > Download the others")
    assert categories.startswith("3 category ids listed, but the published file has 1203")


def test_a_wrong_root_says_what_to_download(tmp_path):
    sentences = told(lvis.examine(tmp_path), "missing")
    assert [one.split(" > ")[0] for one in sentences] == [
        f"{tmp_path} holds no LVIS: there is no lvis_v1_val.json in it",
        "no folder train2017",
        "no folder val2017",
    ]
    assert "(CC BY 4.0; see the page of the set)" in sentences[0]
    assert "every photo keeps the licence of its owner" in sentences[1]


def test_missing_images_are_named(root):
    shutil.rmtree(root / "coco/train2017")
    (root / "coco/val2017/000000000785.jpg").unlink()
    folder, images = told(lvis.examine(root), "missing")
    assert folder.startswith("no folder train2017 > Download the folders train2017 and val2017")
    wanted = "2 images of 3 in lvis_v1_val.json missing: 000000000785.jpg, 000000007574.jpg > Download the folders"
    assert images.startswith(wanted)


def forget_addresses(content):
    for image in content["images"]:
        del image["coco_url"]


def stretch_polygon(content):
    content["annotations"][0]["segmentation"][0][:2] = [900, 5]


def change_size(content):
    content["images"][0]["width"] += 1


def use_another_category(content):
    content["annotations"][0]["category_id"] = 1500


BROKEN = {
    forget_addresses: "lvis_v1_val.json is not COCO-instance JSON: KeyError('file_name')",
    stretch_polygon: "1 damaged mask: annotation ids 1; A polygon lies far outside its image",
    change_size: "1 image not of the annotated size: 000000000785.jpg; ",
    use_another_category: "1 category id used but not listed: 1500",
}


@pytest.mark.parametrize(("change", "sentence"), BROKEN.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_annotation_file(root, change, sentence):
    edit(root, change)
    (found,) = told(lvis.examine(root), "broken")
    assert found.startswith(sentence)


def test_half_a_file(root):
    (root / VAL).write_text((root / VAL).read_text()[:-50])
    (sentence,) = told(lvis.examine(root), "broken")
    assert "is not valid JSON" in sentence
    with pytest.raises(InputError, match="is not valid JSON"):
        lvis.read(root)
