"""Entities: order, overlap, exports and files, down to no entity and one pixel."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from cropformer import rle
from cropformer.colors import id_colors
from cropformer.entities import Entities
from cropformer.errors import InputError

STACKS = arrays(bool, st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9)))


@pytest.fixture
def squares() -> Entities:
    """Two overlapping squares in a 6x8 image; the one given second scores higher."""
    masks = np.zeros((2, 6, 8), dtype=bool)
    masks[0, 1:5, 1:5] = True
    masks[1, 3:6, 3:8] = True
    return Entities.from_masks(masks, [0.25, 0.75], [4, 0], np.eye(2, 3), [17, 90])


def test_best_score_comes_first(squares: Entities):
    assert len(squares) == 2
    assert squares.size_hw == (6, 8)
    assert squares.scores.tolist() == [0.75, 0.25]
    assert squares.labels.tolist() == [0, 4]
    assert squares.query_ids.tolist() == [90, 17]
    assert squares.embeddings.tolist() == [[0, 1, 0], [1, 0, 0]]
    types = [squares.scores.dtype, squares.labels.dtype, squares.embeddings.dtype, squares.query_ids.dtype]
    assert types == [np.float32, np.int64, np.float32, np.int64]


def test_equal_scores_keep_their_order():
    labels = np.arange(40)
    entities = Entities.from_id_map(np.zeros((2, 2), dtype=int), np.repeat([0.1, 0.9], 20), labels)
    assert entities.labels.tolist() == [*range(20, 40), *range(20)]


def test_published_order_is_kept_on_request():
    id_map = np.array([[1, 2, 3]])
    entities = Entities.from_id_map(id_map, [0.2, 0.9, 0.0], [5, 6, 7], query_ids=[3, 1, 2], sort=False)
    assert entities.scores.tolist() == pytest.approx([0.2, 0.9, 0.0])
    assert entities.query_ids.tolist() == [3, 1, 2]
    assert np.array_equal(entities.id_map(), id_map)


def test_constructor_refuses_fields_of_different_length():
    with pytest.raises(ValueError, match=r"one entry per mask .* \[0, 1\]"):
        Entities((2, 2), [], np.ones(1, np.float32), np.zeros(1, np.int64))


@given(STACKS, st.randoms())
def test_id_map_shows_the_higher_score_on_top(masks: np.ndarray, random):
    scores = random.sample([0.1, 0.3, 0.5, 0.7, 0.9], len(masks))
    entities = Entities.from_masks(masks, scores, np.zeros(len(masks)))
    expected = np.zeros(masks.shape[1:], dtype=np.int32)
    for rank, index in enumerate(np.argsort(scores)):
        expected[masks[index]] = len(masks) - rank
    assert entities.id_map().dtype == np.int32
    assert np.array_equal(entities.id_map(), expected)


@given(STACKS)
def test_masks_boxes_and_areas(masks: np.ndarray):
    entities = Entities.from_masks(masks, np.linspace(1, 0.5, len(masks)), np.zeros(len(masks)))
    assert np.array_equal(entities.masks(), masks)
    assert np.array_equal(entities.areas(), masks.sum((1, 2)))
    assert entities.areas().dtype == np.int64
    assert entities.boxes_xyxy().shape == (len(masks), 4)
    for mask, (left, top, right, bottom) in zip(masks, entities.boxes_xyxy().astype(int)):
        assert mask[top:bottom, left:right].sum() == mask.sum()
        assert mask.any() == (right > left)


def test_id_map_round_trip():
    id_map = np.array([[1, 1, 0], [2, 3, 3]])
    entities = Entities.from_id_map(id_map, [0.9, 0.8, 0.7], [0, 0, 0])
    assert np.array_equal(entities.id_map(), id_map)
    assert entities.boxes_xyxy().tolist() == [[0, 0, 2, 1], [0, 1, 1, 2], [1, 1, 3, 2]]
    assert entities.boxes_xyxy().dtype == np.float32


def test_filter(squares: Entities):
    assert squares.filter(min_score=0.5).labels.tolist() == [0]
    assert squares.filter(min_area=16).query_ids.tolist() == [17]  # 4x4 against the 3x5 of the better one
    assert squares.filter(min_score=0.25, min_area=15).scores.tolist() == [0.75, 0.25]
    assert len(squares.filter(min_score=0.8)) == 0


def test_select_keeps_every_field_together(squares: Entities):
    chosen = squares.select(np.array([False, True]))
    assert chosen.rles == squares.rles[1:]
    assert chosen.embeddings.tolist() == [[1, 0, 0]]


def test_coco_results(squares: Entities):
    better, other = squares.to_coco(42)
    assert better["bbox"] == [3, 3, 5, 3]
    assert (better["image_id"], better["category_id"], better["score"], better["area"]) == (42, 1, 0.75, 15)
    assert (other["category_id"], other["area"]) == (5, 16)
    assert json.loads(json.dumps(other))["segmentation"] == squares.rles[1]
    assert [result["category_id"] for result in squares.to_coco(42, category_id=0)] == [0, 4]


def test_panoptic_counts_visible_pixels(squares: Entities):
    rgb, (better, other) = squares.to_panoptic()
    ids = rgb.astype(int) @ [1, 256, 65536]
    assert np.array_equal(ids, squares.id_map())
    assert (better["id"], better["category_id"], better["area"], better["bbox"]) == (1, 1, 15, [3, 3, 5, 3])
    assert (other["id"], other["category_id"], other["area"], other["bbox"]) == (2, 5, 12, [1, 1, 4, 4])
    assert other["iscrowd"] == 0
    assert other["score"] == 0.25


def test_panoptic_leaves_out_the_covered_and_carries_into_green():
    id_map = np.arange(1, 301).reshape(15, 20)
    ids = Entities.from_id_map(id_map, np.linspace(1, 0.1, 300), np.zeros(300)).to_panoptic()[0]
    assert ids[14, 19].tolist() == [300 - 256, 1, 0]
    twins = Entities.from_masks(np.ones((2, 3, 3), dtype=bool), [0.9, 0.8], [0, 0])
    assert [segment["id"] for segment in twins.to_panoptic()[1]] == [1]


def test_supervision_detections(squares: Entities):
    pytest.importorskip("supervision")
    detections = squares.to_supervision()
    assert np.array_equal(detections.mask, squares.masks())
    assert detections.class_id.tolist() == [0, 4]


def test_missing_supervision_says_what_to_install(squares: Entities, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match="pip install supervision"):
        squares.to_supervision()


def test_draw_tints_inside_and_leaves_the_rest():
    photo = np.full((40, 60, 3), 100, dtype=np.uint8)
    id_map = np.zeros((40, 60), dtype=int)
    id_map[10:30, 20:50] = 1
    entities = Entities.from_id_map(id_map, [1.0], [0])
    drawn = entities.draw(photo, opacity=0.5, color_ids=[7])
    assert drawn.shape == photo.shape
    assert drawn.dtype == np.uint8
    assert (drawn[id_map == 0] == 100).all()
    middle = (100 + id_colors([7])[0].astype(float)) / 2
    assert np.abs(drawn[20, 35] - middle).max() <= 1
    assert drawn[10, 35].sum() > drawn[20, 35].sum()  # the outline is brighter than the tint
    assert (photo == 100).all()


def test_color_follows_the_track_and_not_the_rank():
    photo = np.zeros((12, 24, 3), dtype=np.uint8)
    id_map = np.repeat([[1, 2]], 12, axis=1).repeat(12, axis=0)
    first = Entities.from_id_map(id_map, [0.9, 0.8], [0, 0]).draw(photo, color_ids=[30, 40])
    swapped = Entities.from_id_map(id_map, [0.8, 0.9], [0, 0]).draw(photo, color_ids=[40, 30])
    assert np.array_equal(first, swapped)


def test_draw_refuses_another_size(squares: Entities):
    with pytest.raises(InputError, match=r"uint8 \(8, 6, 3\); give the RGB image, uint8 \(6, 8, 3\)"):
        squares.draw(np.zeros((8, 6, 3), dtype=np.uint8))


def test_colors_are_stable_and_far_apart():
    colors = id_colors(range(1, 33)).astype(int)
    distances = np.abs(colors[:, None] - colors[None]).sum(-1)
    assert distances[np.triu_indices(20, 1)].min() > 30
    assert np.diagonal(distances, 1).min() > 150
    assert np.array_equal(id_colors([29, 3]), colors[[28, 2]])
    assert id_colors([]).shape == (0, 3)


def test_save_json(squares: Entities, tmp_path: Path):
    squares.save(tmp_path / "bridge.json")
    assert json.loads((tmp_path / "bridge.json").read_text()) == squares.to_coco("bridge")


def test_save_png(tmp_path: Path):
    id_map = np.arange(1, 301).reshape(15, 20)
    Entities.from_id_map(id_map, np.linspace(1, 0.1, 300), np.zeros(300)).save(tmp_path / "ids.PNG")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "ids.PNG")), id_map)


def test_save_refuses_more_ids_than_png_holds(tmp_path: Path):
    many = Entities((1, 1), [rle.encode(np.ones((1, 1)))] * 65_536, np.ones(65_536), np.zeros(65_536))
    with pytest.raises(InputError, match="65536 entities do not fit"):
        many.save(tmp_path / "ids.png")


@pytest.mark.parametrize("with_extras", [True, False])
def test_npz_round_trip(squares: Entities, tmp_path: Path, with_extras: bool):
    extras = (squares.embeddings, squares.query_ids) if with_extras else (None, None)
    Entities(squares.size_hw, squares.rles, squares.scores, squares.labels, *extras).save(tmp_path / "a.npz")
    loaded = Entities.load(tmp_path / "a.npz")
    assert loaded.size_hw == squares.size_hw
    assert loaded.rles == squares.rles
    assert np.array_equal(loaded.scores, squares.scores)
    assert np.array_equal(loaded.labels, squares.labels)
    for field, extra in zip((loaded.embeddings, loaded.query_ids), extras):
        assert field is None if extra is None else np.array_equal(field, extra)


@pytest.mark.parametrize("damage", ["missing", "text", "short", "other"])
def test_load_refuses_anything_else(squares: Entities, tmp_path: Path, damage: str):
    path = tmp_path / "a.npz"
    if damage == "text":
        path.write_text("hello")
    elif damage == "short":
        squares.save(path)
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "other":
        np.savez(path, scores=np.zeros(3))
    with pytest.raises(InputError, match=r"a\.npz is not a file of entities"):
        Entities.load(path)


def test_save_refuses_another_suffix(squares: Entities, tmp_path: Path):
    with pytest.raises(InputError, match=r"ids\.tga; end its name in \.json, \.png or \.npz"):
        squares.save(tmp_path / "ids.tga")
    assert list(tmp_path.iterdir()) == []


def test_save_into_a_missing_folder_is_one_sentence(squares: Entities, tmp_path: Path):
    with pytest.raises(InputError, match="Cannot write .*No such file"):
        squares.save(tmp_path / "nowhere" / "ids.png")


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 5)])
def test_nothing_found(size_hw: tuple[int, int], tmp_path: Path):
    nothing = Entities.empty(size_hw)
    photo = np.full((*size_hw, 3), 9, dtype=np.uint8)
    assert len(nothing) == 0
    assert not nothing.id_map().any()
    assert nothing.id_map().shape == size_hw
    assert nothing.masks().shape == (0, *size_hw)
    assert nothing.boxes_xyxy().shape == (0, 4)
    assert nothing.areas().shape == (0,)
    assert nothing.to_coco(1) == []
    assert nothing.to_panoptic()[1] == []
    assert len(nothing.filter(min_score=0.5)) == 0
    assert np.array_equal(nothing.draw(photo), photo)
    for name in ("a.json", "a.png", "a.npz"):
        nothing.save(tmp_path / name)
    assert Entities.load(tmp_path / "a.npz").size_hw == size_hw


def test_one_pixel():
    dot = Entities.from_id_map(np.ones((1, 1), dtype=int), [0.5], [0])
    assert dot.boxes_xyxy().tolist() == [[0, 0, 1, 1]]
    assert dot.to_panoptic()[0].tolist() == [[[1, 0, 0]]]
    assert dot.draw(np.zeros((1, 1, 3), dtype=np.uint8), opacity=1.0).tolist() == [id_colors([1]).tolist()]
