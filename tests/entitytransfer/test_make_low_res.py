"""The low-resolution tool: images equal our resize, masks the nearest pixels, and a run that was killed goes on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import rle
from cropformer.resampling import resize_image, resized_size_hw
from entitytransfer.datasets import entityseg
from entitytransfer.doctor import is_healthy
from tools import make_low_res

from .entityseg_tree import make_entityseg_tree

ENTITIES = Path("entityseg/annotations/entity_segmentation")
SIDES = ["--short-side", "40", "--max-side", "50"]  # the second bounds the images of 96 x 128 pixels


@pytest.fixture
def root(tmp_path) -> Path:
    """A tree without its low-resolution set."""
    root = make_entityseg_tree(tmp_path)
    shutil.rmtree(root / "entityseg/images_lr")
    for path in (root / ENTITIES).glob("*_lr.json"):
        path.unlink()
    return root


def make(root: Path, *arguments: str) -> int:
    return make_low_res.main([str(root), "--workers", "1", *SIDES, *arguments])


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_are_our_resize_and_masks_the_nearest_pixels(root, split):
    assert make(root) == 0
    high, low = (entityseg.read(root, split=split, resolution=name) for name in ("high", "low"))
    for whole, small in zip(high, low, strict=True):
        size_hw = resized_size_hw(whole.size_hw, short_side=40, max_side=50)
        assert small.size_hw == size_hw == (38, 50)
        assert small.image_path.parts[-2:] == whole.image_path.parts[-2:]
        difference = small.read_frame().astype(int) - resize_image(whole.read_frame(), size_hw)
        assert np.abs(difference).mean() < 2  # what the JPEG loses
        for mask, small_mask in zip(whole.entity_masks(), small.entity_masks(), strict=True):
            nearest = Image.fromarray(mask).resize((50, 38), Image.Resampling.NEAREST)
            np.testing.assert_array_equal(small_mask, np.asarray(nearest))


def test_the_photo_before_it_becomes_a_jpeg_is_exactly_our_resize(root, monkeypatch):
    monkeypatch.setattr(make_low_res, "JPEG_OPTIONS", {"format": "PNG"})
    assert make(root) == 0
    for whole, small in zip(entityseg.read(root), entityseg.read(root, resolution="low"), strict=True):
        np.testing.assert_array_equal(small.read_frame(), resize_image(whole.read_frame(), small.size_hw))


def test_areas_and_boxes_are_those_of_the_small_masks(root):
    assert make(root) == 0
    content = json.loads((root / ENTITIES / "entityv2_010203_entity_train_lr.json").read_text())
    assert len(content["categories"]) == 644
    assert {(image["height"], image["width"]) for image in content["images"]} == {(38, 50)}
    for entry in content["annotations"]:
        mask = rle.decode(entry["segmentation"])
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top, width, height = entry["bbox"]
        assert entry["area"] == mask.sum()
        assert (left, left + width) == (columns[0], columns[-1] + 1)
        assert (top, top + height) == (rows[0], rows[-1] + 1)


def test_the_doctor_finds_the_result_healthy(root):
    assert make(root, "--workers", "2") == 0
    assert is_healthy(entityseg.examine(root))


def test_entities_without_a_pixel_are_left_out_and_counted(root, capsys):
    path = root / ENTITIES / "entityv2_010203_entity_val.json"
    content = json.loads(path.read_text())
    dot = np.zeros((96, 128), dtype=bool)
    dot[0, 0] = True
    content["annotations"].append({**content["annotations"][0], "id": 9999, "segmentation": rle.encode(dot)})
    path.write_text(json.dumps(content))
    assert make(root) == 0
    small = json.loads((root / ENTITIES / "entityv2_010203_entity_val_lr.json").read_text())
    assert len(small["annotations"]) == len(content["annotations"]) - 1
    assert 9999 not in {entry["id"] for entry in small["annotations"]}
    assert "val: 2 of 2 images made, the others were there; entities that have no pixel left, left out: 1" in (
        capsys.readouterr().out
    )


def small_images(root: Path) -> dict[Path, int]:
    """The images, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in (root / "entityseg/images_lr").rglob("*.jpg")}


def test_a_second_run_makes_only_what_is_missing_or_half_a_file(root, capsys):
    assert make(root) == 0
    before = small_images(root)
    missing, half, *kept = sorted(before)
    missing.unlink()
    half.write_bytes(half.read_bytes()[:-300])
    (root / ENTITIES / "entityv2_010203_entity_train_lr.json").write_text('{"images": [')
    capsys.readouterr()
    assert make(root) == 0
    after = small_images(root)
    assert {path for path in after if after[path] != before[path]} == {missing, half}
    assert all(Image.open(path).convert("RGB").size == (50, 38) for path in after)
    train, val = capsys.readouterr().out.splitlines()[-2:]
    assert "the annotation file was there" not in train
    assert "the annotation file was there" in val
    assert is_healthy(entityseg.examine(root))


def test_another_size_is_made_anew(root):
    assert make(root) == 0
    assert make(root, "--short-side", "24") == 0
    assert {sample.size_hw for sample in entityseg.read(root, resolution="low")} == {(24, 32)}
    assert is_healthy(entityseg.examine(root))


def test_a_broken_photo_is_one_sentence_and_leaves_no_half_set(root, capsys):
    (photo,) = (root / "entityseg/images").rglob("000003.jpg")
    photo.write_bytes(photo.read_bytes()[:-800])
    assert make(root) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{photo} is damaged or truncated" in line
    assert not list((root / ENTITIES).glob("*_lr.json"))


def test_a_damaged_mask_is_named(root, capsys):
    path = root / ENTITIES / "entityv2_010203_entity_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"]["counts"] = "~~"
    path.write_text(json.dumps(content))
    assert make(root) == 2
    assert "Annotation 100 of entity_01_11580/000001.jpg: " in capsys.readouterr().err
