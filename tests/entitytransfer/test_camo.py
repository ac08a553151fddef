"""Reading CAMO and CAMO++: which version a root holds, ids and masks; what is said of a tree that is damaged."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cropformer import InputError
from entitytransfer.datasets import camo
from entitytransfer.doctor import is_healthy
from entitytransfer.readers.coco_results import read_coco_truth
from entitytransfer.readers.mask_folder import read_camo
from entitytransfer.score_task import score_task

from .zero_shot_checks import DATA, as_read, as_scored, save_pixels, told
from .zero_shot_trees import make_camo_tree

FIXTURE = DATA / "camo"
FIRST = "CAMO-V.1.0-CVIU2019"


@pytest.fixture
def root(tmp_path) -> Path:
    """The first CAMO; the root is its own folder."""
    return make_camo_tree(tmp_path / "sets") / FIRST


@pytest.fixture
def newer(tmp_path) -> Path:
    """CAMO++; the root is its own folder."""
    return make_camo_tree(tmp_path / "sets", version="camo++") / "CAMO_pp"


def test_the_first_camo_has_one_mask_in_an_image(root):
    for split, numbers in (("test", (1, 2)), ("train", (3, 4))):
        samples = camo.read(root, split=split)
        assert [sample.image_id for sample in samples] == [f"camourflage_{number:05d}" for number in numbers]
        assert all(len(sample.entity_masks()) == 1 and not sample.exhaustive for sample in samples)
        assert {sample.image_path.parent.name for sample in samples} == {split.capitalize()}
    assert as_read(camo.read(root.parent)) == as_read(camo.read(root))


def test_the_second_has_instances(newer):
    samples = camo.read(newer)
    assert [sample.image_id for sample in samples] == [1, 2]
    assert all(len(sample.entity_masks()) == 3 for sample in samples)
    assert as_read(camo.read(newer.parent)) == as_read(samples)


@pytest.mark.parametrize("place", ["Images/Test", "."])
def test_images_of_the_second_may_lie_elsewhere(newer, place):
    (newer / place).mkdir(parents=True, exist_ok=True)
    for photo in (newer / "test").iterdir():
        photo.rename(newer / place / photo.name)
    assert len(as_read(camo.read(newer))) == 2


def test_of_both_the_second_is_taken_unless_one_is_named(root, newer):
    both = root.parent
    assert [sample.image_id for sample in camo.read(both)] == [1, 2]
    assert [sample.image_id for sample in camo.read(both, version="camo++")] == [1, 2]
    assert camo.read(both, version="camo")[0].image_id == "camourflage_00001"
    (newer / "test.json").unlink()
    assert camo.read(both)[0].image_id == "camourflage_00001"


def test_the_masks_are_those_that_recall_counts(tmp_path):
    assert as_read(camo.read(FIXTURE)) == as_scored(read_coco_truth(FIXTURE / "CAMO_pp/test.json"))
    shutil.copytree(FIXTURE / FIRST, tmp_path / FIRST)
    shutil.copytree(FIXTURE / "CAMO_pp/test", tmp_path / FIRST / "Images/Test")  # the fixture shares its photos
    scored = as_scored(read_camo(FIXTURE / FIRST))
    read = as_read(camo.read(tmp_path))
    assert len(read) == 3
    assert read == {image_id: scored[image_id] for image_id in read}
    assert as_scored(read_camo(tmp_path)) == scored


def test_recall_counts_the_images_of_the_split(root, tmp_path):
    """Masks of both splits lie in one folder; predictions of the test images are scored against those alone."""
    results = tmp_path / "results.json"
    results.write_text("[]")
    counted = {
        split: score_task("recall", ground_truth=root, predictions=results, format="camo", split=split).protocol
        for split in ("test", "all")
    }
    assert [counted[split]["images"] for split in counted] == [2, 4]
    alone = score_task("recall", ground_truth=root / "GT", predictions=results, format="camo").protocol
    assert alone["images"] == 4


# --- what is refused


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"split": "val"}, "'split' must be one of test, train, not 'val'"),
        ({"version": "camo2"}, "'version' must be one of camo, camo.., not 'camo2'"),
        ({"version": "camo++"}, r"holds no camo\+\+: there is no test.json in it; check the path."),
    ],
)
def test_a_choice_that_is_not_there_is_refused(root, choice, sentence):
    with pytest.raises(InputError, match=sentence):
        camo.read(root, **choice)


def test_a_wrong_root_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=f"{tmp_path} holds no CAMO: there is no test.json nor GT in it; check the path"
    ):
        camo.read(tmp_path)


def test_a_half_extracted_archive_is_refused(root):
    (root / "GT/camourflage_00002.png").unlink()
    with pytest.raises(
        InputError, match=r"no mask in .*GT for 1 of 2 photos, the first of them .*camourflage_00002.jpg;"
    ):
        camo.read(root)
    (root / "GT/camourflage_00001.png").unlink()
    with pytest.raises(InputError, match=r"No PNG in .*GT belongs to a photo in .*Images/Test; unpack the whole"):
        camo.read(root)
    shutil.rmtree(root / "Images")
    with pytest.raises(InputError, match=r"no photo in .*Images/Test for 2 of 2 masks, the first of them .*; unpack"):
        camo.read(root)


# --- the doctor


@pytest.mark.parametrize("version", ["camo", "camo++"])
def test_a_healthy_tree_is_counted(root, newer, version):
    for split, published in camo.IMAGES[version].items():
        findings = list(camo.examine(root.parent, split=split, version=version))
        assert is_healthy(findings)
        assert findings[-1].what.startswith(f"{version.upper()} {split}: 2 images, ")
        assert f", where {published:,} are published > Download the others" in told(findings, "note")[0]


def test_a_wrong_root_says_what_to_ask_for(tmp_path):
    (sentence,) = told(camo.examine(tmp_path), "missing")
    assert sentence.startswith(
        f"{tmp_path} holds no CAMO: there is no test.json nor GT in it; check the path. > Ask for"
    )
    assert "see there for its terms" in sentence


def test_missing_photos_and_masks_are_named(root):
    (root / "GT/camourflage_00002.png").unlink()
    (sentence,) = told(camo.examine(root), "missing")
    assert sentence.startswith("1 photo of CAMO test without mask: camourflage_00002.jpg > Ask for CAMO")
    (root / "GT/camourflage_00001.png").unlink()
    (sentence,) = told(camo.examine(root), "missing")
    assert sentence.startswith("No PNG in ")
    shutil.rmtree(root / "Images")
    (sentence,) = told(camo.examine(root), "missing")
    assert sentence.startswith("no folder Images/Test > Ask for CAMO")


def test_a_mask_of_zeros_and_ones(root):
    save_pixels(root / "GT/camourflage_00001.png", np.ones((96, 128), dtype=np.uint8))
    (sentence,) = told(camo.examine(root), "broken")
    assert sentence.startswith("1 mask without a pixel above 128: camourflage_00001.png; the brightest pixel of")


def test_missing_images_of_the_second_are_named(newer):
    (newer / "test/camourflage_00001.jpg").unlink()
    (sentence,) = told(camo.examine(newer), "missing")
    assert sentence.startswith("1 image of 2 in test.json missing: camourflage_00001.jpg > Ask for CAMO")
