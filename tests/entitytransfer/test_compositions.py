"""Synthetic compositions: masks follow the pixels, occlusion is exact, and a seed repeats a set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from entitytransfer.datasets import coco
from tools import make_compositions

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"
RED, BLUE = (200, 0, 0), (0, 0, 200)


def opaque(width, height, color=RED):
    return Image.new("RGBA", (width, height), (*color, 255))


def run(out, count=3, seed=5):
    arguments = ["--panoptic", TINY, "--instances", TINY, "--out", out, "--count", count, "--seed", seed]
    return make_compositions.main([str(argument) for argument in arguments])


def test_pasted_pixels_move_from_the_entity_below_to_the_new_one():
    image = Image.new("RGB", (40, 30), BLUE)
    below = np.ones((1, 30, 40), dtype=bool)
    image, masks = make_compositions.paste(image, below, opaque(10, 6), center_xy=(20, 15))
    expected = np.zeros((30, 40), dtype=bool)
    expected[12:18, 15:25] = True
    np.testing.assert_array_equal(masks, [~expected, expected])
    np.testing.assert_array_equal(np.asarray(image)[expected], np.full((60, 3), RED))
    np.testing.assert_array_equal(np.asarray(image)[~expected], np.full((1140, 3), BLUE))


def test_part_outside_the_image_is_lost():
    image = Image.new("RGB", (40, 30))
    _, masks = make_compositions.paste(image, np.zeros((0, 30, 40), bool), opaque(10, 6), center_xy=(0, 0))
    assert masks.sum() == 5 * 3
    assert masks[0, :3, :5].all()


def test_onlywhole_objects_of_moderate_size_are_cut_out():
    masks = np.zeros((4, 50, 50), dtype=bool)
    masks[0, 10:30, 10:30] = True
    masks[1, 0:20, 10:30] = True  # touches the border
    masks[2, 5:45, 5:45] = True  # 64 % of the photo
    masks[3, 5:8, 5:8] = True  # 0.4 % of the photo
    assert make_compositions.whole_objects(masks).tolist() == [0]


def test_cut_out_shows_its_object():
    (cut_out, *_) = make_compositions.find_cut_outs(coco.read(TINY))
    mask, rgba = cut_out.sample.entity_masks()[cut_out.index], np.asarray(cut_out.rgba())
    inside = rgba[..., 3] == 255
    assert inside.sum() == mask.sum()
    np.testing.assert_array_equal(rgba[inside][:, :3], cut_out.sample.read_frame()[mask])


@pytest.mark.parametrize("seed", range(3))
def test_entities_do_not_overlap_and_are_visible(seed):
    samples = coco.read(TINY)
    cut_outs = make_compositions.find_cut_outs(samples)[:3]
    image, masks = make_compositions.compose(samples[0], cut_outs, np.random.default_rng(seed))
    assert masks.shape[1:] == (image.height, image.width) == samples[0].size_hw
    assert masks.sum(axis=0).max() == 1
    assert masks.sum(axis=(1, 2)).min() >= make_compositions.MIN_PIXELS


def test_hidden_background_entities_are_dropped(monkeypatch):
    monkeypatch.setattr(make_compositions, "vary", lambda cut_out, rng: opaque(2000, 2000))
    samples = coco.read(TINY)
    cut_outs = make_compositions.find_cut_outs(samples)[:1]
    _, masks = make_compositions.compose(samples[0], cut_outs, np.random.default_rng(0))
    assert len(masks) == 0  # the cut-out itself shows less than a quarter of its four million pixels


def test_command_writes_a_readable_set_and_repeats_it(tmp_path):
    assert run(tmp_path / "a") == run(tmp_path / "b") == 0
    for left, right in zip(coco.read(tmp_path / "a"), coco.read(tmp_path / "b"), strict=True):
        np.testing.assert_array_equal(left.read_frame(), right.read_frame())
        np.testing.assert_array_equal(left.entity_masks(), right.entity_masks())
        assert len(left.labels()) >= 2


def test_more_compositions_keep_the_earlier_ones_and_seeds_differ(tmp_path):
    run(tmp_path / "one", count=1)
    run(tmp_path / "two", count=2)
    run(tmp_path / "other", count=1, seed=6)
    one, two, other = ((tmp_path / name / "images" / "000001.jpg").read_bytes() for name in ("one", "two", "other"))
    assert one == two != other


def test_missing_set_is_one_sentence(tmp_path, capsys):
    arguments = [
        "--panoptic",
        str(tmp_path / "none"),
        "--instances",
        str(TINY),
        "--out",
        str(tmp_path / "out"),
    ]
    assert make_compositions.main(arguments) == 2
    assert "There is no folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
