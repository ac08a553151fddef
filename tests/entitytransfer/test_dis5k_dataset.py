"""Reading DIS5K: splits, ids and the foreground; what is said of a tree that is incomplete or damaged."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import entitytransfer
from cropformer import InputError
from entitytransfer.datasets import dis5k, open_adapter
from entitytransfer.doctor import is_healthy
from entitytransfer.readers.grey_maps import list_maps
from entitytransfer.writers.maps import MapWriter

from .zero_shot_checks import DATA, save_pixels, told
from .zero_shot_trees import DIS5K_SPLITS, make_dis5k_tree

FIXTURE = DATA / "dis5k" / "DIS5K"
SIZE_HW = (96, 128)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return make_dis5k_tree(tmp_path_factory.mktemp("sets"), size_hw=SIZE_HW)


@pytest.fixture
def root(tree, tmp_path) -> Path:
    """A copy whose home is the root itself."""
    return Path(shutil.copytree(tree / "DIS5K", tmp_path / "copy"))


def first(root: Path, part: str, split: str = "DIS-VD") -> Path:
    return sorted((root / split / part).iterdir())[0]


def test_a_mask_is_what_is_brighter_than_128(root):
    grey = np.full(SIZE_HW, 128, dtype=np.uint8)
    grey[10:20, 30:60] = 129
    save_pixels(first(root, "gt"), grey)
    sample = dis5k.read(root)[0]
    np.testing.assert_array_equal(sample.entity_masks(), (grey == 129)[None])
    assert sample.truth().areas.tolist() == [300]
    assert sample.exhaustive


def test_splits_and_their_ids(tree):
    for split, images in DIS5K_SPLITS.items():
        samples = dis5k.read(tree, split=split)
        assert [sample.image_id for sample in samples] == sorted(list_maps(tree / "DIS5K" / split / "gt"))
        assert len(samples) == images
        assert all("#" in sample.image_id for sample in samples)
    both = dis5k.read(tree, split="DIS-TE4,DIS-VD")
    assert [sample.image_id.split("/")[0] for sample in both] == ["DIS-TE4", "DIS-VD", "DIS-VD"]
    assert both.classes.names == ("foreground",)


def test_the_masks_are_those_that_are_scored(tmp_path):
    """Maps of the fixture's masks, written under the ids of the samples, are perfect."""
    writer = MapWriter(tmp_path)
    for sample in dis5k.read(FIXTURE.parent):
        assert sample.read_frame().shape == (*sample.size_hw, 3)
        writer.write(sample.image_id, sample.entity_masks().any(axis=0).astype(np.uint8) * 255)
    metrics = entitytransfer.score("dis5k", ground_truth=FIXTURE, predictions=tmp_path)
    assert (metrics["MAE"], metrics["HCE"]) == (0, 0)
    assert metrics["maxF"] == pytest.approx(1)


def test_an_image_may_have_no_foreground(root):
    save_pixels(first(root, "gt"), np.zeros(SIZE_HW, dtype=np.uint8))
    sample = dis5k.read(root)[0]
    assert sample.entity_masks().shape == (0, *SIZE_HW)
    assert len(sample.truth().rles) == len(sample.labels()) == 0
    (note,) = [note for note in told(dis5k.examine(root, split="DIS-VD"), "note") if "without entities" in note]
    assert note.startswith("1 image of DIS-VD without entities: image ids 1#Group")


def test_it_is_a_dichotomous_task(tree):
    adapter = open_adapter("dis5k", {"split": "DIS-TR"})
    head = adapter.build_head(adapter.read(tree, split="DIS-TR").classes)
    assert head.task == "dichotomous"


# --- what is refused


@pytest.mark.parametrize("split", ["DIS-TE5", "DIS-VD,DIS-VD", "DIS-VD,", ""])
def test_a_split_that_is_none_is_refused(tree, split):
    with pytest.raises(InputError, match="has no folder .*gt of its own; choose splits of DIS5K, each once."):
        dis5k.read(tree, split=split)


def test_a_half_extracted_archive_is_refused(root):
    photo, mask = first(root, "im", "DIS-TR"), first(root, "gt", "DIS-TR")
    stray = photo.with_name("9#stray.jpg")
    shutil.copy(photo, stray)
    with pytest.raises(InputError, match=rf"no mask in .*DIS-TR/gt for 1 of 5 photos, the first of them {stray};"):
        dis5k.read(root, split="DIS-TR")
    photo.unlink()
    with pytest.raises(InputError, match=rf"no photo in .*DIS-TR/im for 1 of 4 masks, the first of them {mask};"):
        dis5k.read(root, split="DIS-TR")


def test_an_empty_split_is_refused(root):
    for path in (root / "DIS-VD/gt").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="There is no PNG in .*DIS-VD/gt; check the path."):
        dis5k.read(root)
    (sentence,) = told(dis5k.examine(root, split="DIS-VD"), "broken")
    assert sentence.startswith(f"There is no PNG in {root / 'DIS-VD/gt'}; check the path. > Download DIS5K")


# --- the doctor


def test_all_splits_are_counted(tree):
    findings = list(dis5k.examine(tree))
    assert is_healthy(findings)
    counts = [finding.what for finding in findings if finding.level == "ok"]
    assert [count.split(":")[0] for count in counts] == list(DIS5K_SPLITS)
    assert told(findings, "note")[1].startswith("2 masks in DIS-VD, where 470 are published > Download the others")


def test_missing_splits_and_parts_are_named(root):
    shutil.rmtree(root / "DIS-TE2")
    shutil.rmtree(root / "DIS-TE3/gt")
    sentences = told(dis5k.examine(root), "missing")
    assert [one.split(" > ")[0] for one in sentences] == [
        "no folder DIS-TE2/im",
        "no folder DIS-TE2/gt",
        "no folder DIS-TE3/gt",
    ]
    assert all("Download DIS5K, GitHub xuebinqin/DIS" in one for one in sentences)
    assert is_healthy(dis5k.examine(root, split="DIS-VD,DIS-TE1"))


def test_a_wrong_root_says_what_to_download(tmp_path):
    (sentence,) = told(dis5k.examine(tmp_path), "missing")
    assert sentence.startswith(f"{tmp_path} holds no DIS5K: there is none of DIS-TR, DIS-VD, ")
    assert "see its page for the terms of use" in sentence


def remove_photo(root):
    first(root, "im").unlink()


def remove_mask(root):
    first(root, "gt").unlink()


def shrink_photo(root):
    Image.new("RGB", (40, 30)).save(first(root, "im"))


def cut_photo(root):
    first(root, "im").write_bytes(first(root, "im").read_bytes()[:-300])


def cut_mask(root):
    first(root, "gt").write_bytes(first(root, "gt").read_bytes()[:60])


def empty_mask_file(root):
    first(root, "gt").write_bytes(b"")


def darken_mask(root):
    save_pixels(first(root, "gt"), (np.arange(96 * 128).reshape(SIZE_HW) % 2).astype(np.uint8))


def widen_mask(root):
    save_pixels(first(root, "gt"), np.zeros(SIZE_HW, dtype=np.uint16))


def repeat_mask(root):
    shutil.copy(first(root, "gt"), first(root, "gt").with_suffix(".PNG"))


NAME = "1#Group#3#Class#785_0123abcdef_o"
DAMAGE = {
    remove_photo: ("missing", f"1 mask of 2 in DIS-VD without photo: {NAME}.png > Download DIS5K"),
    remove_mask: ("missing", f"1 photo of DIS-VD without mask: {NAME}.jpg > Download DIS5K"),
    shrink_photo: ("broken", f"1 image not of the annotated size: {NAME}.jpg; {NAME}.jpg is 40x30, annotated 128x96 >"),
    cut_photo: ("broken", f"1 image unreadable: {NAME}.jpg; "),
    cut_mask: ("broken", f"1 broken mask: {NAME}.png; "),
    empty_mask_file: ("broken", f"1 broken mask: {NAME}.png; "),
    darken_mask: (
        "broken",
        f"1 mask without a pixel above 128: {NAME}.png; the brightest pixel of {NAME}.png has 1 > Store foreground as",
    ),
    widen_mask: ("broken", f"1 broken mask: {NAME}.png; "),
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_each_damage_is_one_sentence(root, damage):
    damage(root)
    level, sentence = DAMAGE[damage]
    findings = list(dis5k.examine(root, split="DIS-VD"))
    (found,) = told(findings, "missing") + told(findings, "broken")
    assert found.startswith(sentence)
    assert told(findings, level) == [found]


def test_two_masks_of_one_image(root):
    repeat_mask(root)
    (sentence,) = told(dis5k.examine(root, split="DIS-VD"), "broken")
    assert f"{NAME}.png are for the same image; remove one." in sentence
