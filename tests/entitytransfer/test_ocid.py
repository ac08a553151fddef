"""Reading OCID: objects and what they stand on, ids and subsets; what is said of a tree that is damaged."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import InputError
from entitytransfer.datasets import ocid
from entitytransfer.doctor import is_healthy
from entitytransfer.readers.mask_folder import read_ocid

from .zero_shot_checks import DATA, as_read, as_scored, save_pixels, told
from .zero_shot_trees import OCID_SEQUENCES, make_ocid_tree

FIXTURE = DATA / "ocid"


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return make_ocid_tree(tmp_path_factory.mktemp("sets"))


@pytest.fixture
def root(tree, tmp_path) -> Path:
    """A copy whose home is the root itself."""
    return Path(shutil.copytree(tree / "OCID-dataset", tmp_path / "copy"))


def label(root: Path) -> Path:
    return next((root / "ARID20/floor/top/seq01/label").iterdir())


def read_label(root: Path) -> np.ndarray:
    with Image.open(label(root)) as file:
        return np.asarray(file)


def test_supports_are_dropped_or_kept(tree):
    """A floor is label 1, a table label 2 where the path says so; the other labels are objects."""
    dropped, kept = ocid.read(tree), ocid.read(tree, supports="keep")
    surfaces = {"floor": 1, "table": 2}
    for with_supports, without in zip(kept, dropped, strict=True):
        kind = with_supports.image_id.split("/")[1]
        np.testing.assert_array_equal(with_supports.entity_masks()[surfaces[kind] :], without.entity_masks())
        assert not without.exhaustive


def test_images_are_called_by_their_paths_without_label(tree):
    samples = ocid.read(tree)
    assert {sample.image_id.rpartition("/")[0] for sample in samples} == set(OCID_SEQUENCES)
    for sample in samples:
        folder, _, name = sample.image_id.rpartition("/")
        assert sample.image_path == tree / "OCID-dataset" / folder / "rgb" / name


def test_a_subset_is_a_folder(tree):
    ids = [sample.image_id for sample in ocid.read(tree)]
    assert [sample.image_id for sample in ocid.read(tree, subset="ARID20")] == [i for i in ids if "ARID20" in i]
    assert len(ocid.read(tree, subset="ARID20/table")) == 1
    with pytest.raises(InputError, match="has no folder ARID30; choose a subset of OCID, such as ARID20"):
        ocid.read(tree, subset="ARID30")
    with pytest.raises(InputError, match="has no folder /; choose a subset"):
        ocid.read(tree, subset="/")
    with pytest.raises(InputError, match="There is no file .*label/.*png in .*nowhere; check the path"):
        ocid.read(tree / "nowhere")


@pytest.mark.parametrize("supports", ["drop", "keep"])
def test_the_masks_are_those_that_recall_counts(supports):
    read = as_read(ocid.read(FIXTURE, supports=supports))
    assert len(read) == 8
    assert read == as_scored(read_ocid(FIXTURE, supports=supports == "keep"))


# --- what is refused


def test_an_unknown_choice_is_refused(tree):
    with pytest.raises(InputError, match="'supports' must be one of drop, keep, not 'both'"):
        ocid.read(tree, supports="both")


def test_a_label_map_without_photo_is_refused(root):
    shutil.rmtree(label(root).parents[1] / "rgb")
    with pytest.raises(InputError, match=r"no photo in .*seq01/rgb for 1 of 4 masks, .*; unpack the whole archive"):
        ocid.read(root)


def test_photos_without_label_are_not_used(root):
    label(root).unlink()
    assert len(ocid.read(root)) == 3


# --- the doctor


def test_a_healthy_tree_is_counted(tree):
    findings = list(ocid.examine(tree))
    assert is_healthy(findings)
    assert findings[-1].what == "OCID: 4 images, 16 entities (4.0 in an image, at most 5), categories: 1"
    assert told(findings, "note")[0].startswith("4 label maps in OCID, where 2,390 are published > Download the others")


def test_a_wrong_root_says_what_to_download(tmp_path):
    (sentence,) = told(ocid.examine(tmp_path), "missing")
    assert sentence.startswith(
        f"{tmp_path} holds no OCID: there is none of ARID20, ARID10, YCB10 in it > Download OCID"
    )
    assert "see its page for the licence" in sentence


def test_missing_subsets_are_named_unless_one_is_chosen(root):
    shutil.rmtree(root / "YCB10")
    (sentence,) = told(ocid.examine(root), "missing")
    assert sentence.startswith("no folder YCB10 > Download OCID")
    assert is_healthy(ocid.examine(root, subset="ARID20"))
    (sentence,) = told(ocid.examine(root, subset="YCB10"), "missing")
    assert "has no folder YCB10; choose a subset" in sentence


def test_labels_beyond_the_last_object(root):
    labels = read_label(root).astype(np.uint16)
    labels[:5, :5] = 4000
    save_pixels(label(root), labels)
    (sentence,) = told(ocid.examine(root), "broken")
    name = label(root).name
    assert (
        sentence == f"1 label map with labels above 91: {name}; {name} holds 4000 > Put back the original label PNGs."
    )


def test_a_label_map_in_colours(root):
    save_pixels(label(root), np.zeros((96, 128, 3), dtype=np.uint8))
    (sentence,) = told(ocid.examine(root), "broken")
    assert sentence.startswith(f"1 broken mask: {label(root).name}; ")
    assert "has pixels of mode RGB, not one number each; give the original label PNG. > Download the masks" in sentence


def test_photos_and_labels_that_do_not_belong_together(root):
    photo = label(root).parents[1] / "rgb" / label(root).name
    photo.rename(photo.with_name("result_other.png"))
    without_photo, without_mask = told(ocid.examine(root), "missing")
    assert without_photo.startswith(f"1 mask of 4 in OCID without photo: {photo.name} > Download OCID")
    assert without_mask.startswith("1 photo of OCID without mask: result_other.png > Download OCID")
