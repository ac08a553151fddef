"""Reading FSS-1000: classes of the list or all, odd endings, one mask an image; what is said of a damaged tree."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cropformer import InputError
from entitytransfer.datasets import fss
from entitytransfer.doctor import is_healthy
from entitytransfer.readers.mask_folder import read_fss

from .zero_shot_checks import DATA, as_read, as_scored, save_pixels, told
from .zero_shot_trees import make_fss_tree

FIXTURE = DATA / "fss"


@pytest.fixture
def root(tmp_path) -> Path:
    return make_fss_tree(tmp_path / "sets")


def test_the_classes_of_the_list_or_all(root):
    assert {sample.image_id.split("/")[0] for sample in fss.read(root)} == {"ab_wheel", "bus"}
    assert [sample.image_id for sample in fss.read(root)][:5] == [*(f"ab_wheel/{n}" for n in (1, 2, 3, 4)), "bus/1"]
    assert len(fss.read(root, split="all")) == 12
    assert len(fss.read(root / "fewshot_data", split="all")) == 12
    (root / "fss_test_set.txt").rename(root / "fewshot_data/fss_test_set.txt")
    assert len(fss.read(root / "fewshot_data")) == 8


def test_an_image_has_one_mask_whatever_its_parts(root):
    parts = np.zeros((64, 64, 3), dtype=np.uint8)
    parts[5:9], parts[20:30] = 255, 200
    save_pixels(root / "fewshot_data/bus/1.png", parts)
    (sample,) = [sample for sample in fss.read(root) if sample.image_id == "bus/1"]
    np.testing.assert_array_equal(sample.entity_masks(), (parts[..., 0] > 128)[None])


@pytest.mark.parametrize("name", ["1.jpeg", "1.JPG", "1 .jpg", " 1.jpg"])
def test_photos_with_odd_endings_are_found(root, name):
    folder = root / "fewshot_data/bus"
    (folder / "1.jpg").rename(folder / name)
    found = {sample.image_id: sample.image_path for sample in fss.read(root)}
    assert found["bus/1"] == folder / name
    assert found["bus/2"] == folder / "2.jpg"


@pytest.mark.parametrize("name", ["1.PNG", "1 .png"])
def test_masks_with_odd_endings_are_found(root, name):
    folder = root / "fewshot_data/bus"
    (folder / "1.png").rename(folder / name)
    (sample,) = [sample for sample in fss.read(root) if sample.image_id == "bus/1"]
    assert (sample.annotation.png_path, sample.image_path) == (folder / name, folder / "1.jpg")


@pytest.mark.parametrize("split", ["test", "all"])
def test_the_masks_are_those_that_recall_counts(split):
    read = as_read(fss.read(FIXTURE, split=split))
    assert len(read) == 18
    assert read == as_scored(read_fss(FIXTURE, split=split))


# --- what is refused


def test_what_is_missing_is_refused(root):
    with pytest.raises(InputError, match="'split' must be one of test, all, not 'val'"):
        fss.read(root, split="val")
    (root / "fewshot_data/bus/2.jpg").unlink()
    with pytest.raises(InputError, match=r"no photo in .*bus for 1 of 8 masks, the first of them .*2.png; unpack"):
        fss.read(root)
    shutil.rmtree(root / "fewshot_data/bus")
    with pytest.raises(InputError, match="lists the class 'bus', but .* has no such folder; complete the data."):
        fss.read(root)
    (root / "fss_test_set.txt").write_text("\n")
    with pytest.raises(InputError, match=r"There is no file CLASS/N.png in .*fewshot_data; check the path"):
        fss.read(root)
    (root / "fss_test_set.txt").unlink()
    with pytest.raises(InputError, match="no fss_test_set.txt in or beside .*; put it there or choose the split 'all'"):
        fss.read(root)


# --- the doctor


def test_a_healthy_tree_is_counted(root):
    for split, images, classes in (("test", 8, "2 class folders in fewshot_data, where 240"), ("all", 12, "3 class ")):
        findings = list(fss.examine(root, split=split))
        assert is_healthy(findings)
        assert findings[-1].what.startswith(f"{split}: {images} images, {images} entities (1.0 in an image, at most 1)")
        assert told(findings, "note")[0].startswith(classes)
    few = told(fss.examine(root), "note")[1]
    assert few.startswith("2 class folders with fewer than 10 masks: ab_wheel, bus > Download FSS-1000")


@pytest.mark.parametrize("damage", ["list", "class", "root"])
def test_missing_parts_say_what_to_download(root, damage):
    if damage == "class":
        shutil.rmtree(root / "fewshot_data/bus")
    elif damage == "list":
        (root / "fss_test_set.txt").unlink()
    else:
        shutil.rmtree(root / "fewshot_data")
    (sentence,) = told(fss.examine(root), "missing")
    wanted = {
        "list": "There is no fss_test_set.txt in or beside",
        "class": "lists the class 'bus'",
        "root": "'ab_wheel'",
    }
    assert wanted[damage] in sentence
    assert "> Download FSS-1000, GitHub HKUSTCV/FSS-1000 (see its page for the licence)" in sentence


def test_photos_and_masks_that_do_not_belong_together(root):
    folder = root / "fewshot_data/bus"
    (folder / "1.jpg").unlink()
    (folder / "2.png").unlink()
    without_photo, without_mask = told(fss.examine(root), "missing")
    assert without_photo.startswith("1 mask of 7 in test without photo: 1.png > Download FSS-1000")
    assert without_mask.startswith("1 photo of test without mask: 2.jpg > Download FSS-1000")


def test_a_photo_of_another_size(root):
    save_pixels(root / "fewshot_data/bus/1.jpg", np.zeros((50, 60, 3), dtype=np.uint8))
    (sentence,) = told(fss.examine(root), "broken")
    assert sentence.startswith("1 image not of the annotated size: 1.jpg; 1.jpg is 60x50, annotated 64x64 > Put back")
    (sample,) = [sample for sample in fss.read(root) if sample.image_id == "bus/1"]
    with pytest.raises(InputError, match="has height and width .50, 60. but its annotation says .64, 64."):
        sample.read_frame()
