"""Run-length encoding agrees with pycocotools, survives a round trip, and refuses what is not a mask."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from cropformer import rle
from cropformer.errors import InputError

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=24))
ID_MAPS = arrays(np.int32, array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(-1, 5))


def coco_encode(mask: np.ndarray) -> dict:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def blank_rle(height: int, width: int, counts: list[int]) -> dict:
    """RLE of any counts at all, written by pycocotools without a check."""
    encoded = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode()}


@given(MASKS)
def test_round_trip(mask: np.ndarray):
    encoded = rle.encode(mask)
    assert encoded == coco_encode(mask)
    decoded = rle.decode(encoded)
    assert decoded.dtype == bool
    assert np.array_equal(decoded, mask)


@given(MASKS)
def test_area_and_box_are_those_of_the_pixels(mask: np.ndarray):
    encoded = rle.encode(mask)
    ys, xs = np.nonzero(mask)
    box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if xs.size else [0, 0, 0, 0]
    assert rle.area(encoded) == mask.sum()
    assert rle.bounding_box_xyxy(encoded).tolist() == box


@given(ID_MAPS)
def test_id_map_gives_the_same_counts_as_one_mask_at_a_time(id_map: np.ndarray):
    ids = [3, -1, 0, 5, 99, 3]  # unsorted, absent and repeated ids are all fine
    assert rle.encode_id_map(id_map, ids) == [coco_encode(id_map == i) for i in ids]


@given(MASKS)
def test_runs_alternate_and_fill_the_mask(mask: np.ndarray):
    lengths = rle.runs(rle.encode(mask))
    pixels = np.repeat(np.arange(lengths.size) % 2, lengths)
    assert np.array_equal(pixels, mask.T.reshape(-1))


def test_long_runs_need_several_characters():
    id_map = np.zeros((3000, 2000), dtype=np.int32)
    id_map[1234:2345, 321:1999] = 7
    id_map[0, 0] = 7
    (encoded,) = rle.encode_id_map(id_map, [7])
    assert encoded == coco_encode(id_map == 7)
    assert np.array_equal(rle.decode(encoded), id_map == 7)


@pytest.mark.parametrize("cuts", [[0, 3, 10], [0, 1, 2, 9, 10]])
def test_strips_give_the_same_as_the_whole_map(cuts: list[int]):
    """Runs that go on from strip to strip are joined, full columns included."""
    id_map = np.repeat([[1, 1, 1, 2, 2, 0, 1, 1, 1, 1]], 7, axis=0)
    id_map[2:4, 1:9] = 3
    strips = [(a, id_map[:, a:b].T) for a, b in zip(cuts, cuts[1:])]
    assert rle.encode_strips(strips, (7, 10), [1, 2, 3]) == [coco_encode(id_map == i) for i in (1, 2, 3)]


def test_columns_in_no_strip_are_empty():
    values = np.ones((2, 5), dtype=np.int16)
    (encoded,) = rle.encode_strips([(3, values), (6, values)], (5, 9), [1])
    assert rle.decode(encoded).any(0).tolist() == [False] * 3 + [True] * 2 + [False] + [True] * 2 + [False]
    assert rle.encode_strips([], (5, 9), [1]) == [coco_encode(np.zeros((5, 9)))]


def test_no_ids_give_no_masks():
    assert rle.encode_id_map(np.ones((2, 3), dtype=np.int64), []) == []


def test_a_slice_of_a_larger_map_is_encoded_as_seen():
    id_map = np.arange(48).reshape(6, 8)[::2, 1::3] % 3
    assert rle.encode_id_map(id_map, [0, 1]) == [coco_encode(id_map == 0), coco_encode(id_map == 1)]


def test_any_non_zero_value_is_inside():
    assert rle.encode(np.array([[0, 1], [2, 255]])) == rle.encode(np.array([[False, True], [True, True]]))


def test_json_round_trip():
    mask = np.eye(5, dtype=bool)
    assert np.array_equal(rle.decode(json.loads(json.dumps(rle.encode(mask)))), mask)


def test_bytes_counts_of_pycocotools_are_understood():
    mask = np.tri(4, 6, dtype=bool)
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.area(encoded) == mask.sum()
    assert np.array_equal(rle.decode(encoded), mask)


@pytest.mark.parametrize("counts", [[2, 0, 2, 2], [0, 2, 0, 4], [0, 0, 6], [3, 0, 3]])
def test_runs_of_length_zero(counts: list[int]):
    pixels = np.repeat(np.arange(len(counts)) % 2, counts).reshape(3, 2).T.astype(bool)
    encoded = blank_rle(2, 3, counts)
    assert np.array_equal(rle.decode(encoded), pixels)
    assert rle.area(encoded) == pixels.sum()
    assert np.array_equal(rle.bounding_box_xyxy(encoded), rle.bounding_box_xyxy(rle.encode(pixels)))


@pytest.mark.parametrize("counts", [[5], [7], [1, 2, 2], [1, 2, 4], [1, 2, 3, 10**6]])
def test_runs_of_another_size_are_refused(counts: list[int]):
    with pytest.raises(InputError, match="do not add up to its size 2x3"):
        rle.decode(blank_rle(2, 3, counts))


def test_negative_runs_are_refused():
    lengths = ["8", "N", "1"]  # 8, -2, 1 -> not a mask although nothing but the sign is wrong
    encoded = {"size": [1, 7], "counts": "".join(lengths)}
    with pytest.raises(InputError, match="do not add up"):
        rle.decode(encoded)


@pytest.mark.parametrize("counts", ["", "!", "6é", "P", "oooooooooooooo0", "6\x00", "~"])
@pytest.mark.parametrize("read", [rle.decode, rle.area, rle.bounding_box_xyxy])
def test_text_that_is_no_rle_is_refused(counts: str, read):
    with pytest.raises(InputError, match="not compressed COCO text"):
        read({"size": [2, 3], "counts": counts})


# --- rows and columns picked out of the runs


@given(MASKS, st.data())
def test_picked_rows_and_columns_are_those_of_the_decoded_mask(mask: np.ndarray, data: st.DataObject):
    rows, columns = (
        np.array(sorted(data.draw(st.lists(st.integers(0, side - 1), min_size=1, max_size=30))), dtype=np.int64)
        for side in mask.shape
    )
    picked = rle.cut([rle.encode(mask), rle.encode(~mask)], rows, columns)
    assert picked.dtype == bool
    assert np.array_equal(picked[0], mask[rows][:, columns])
    assert np.array_equal(picked[1], ~picked[0])
    assert np.array_equal(rle.cut([rle.encode(mask)], rows, columns[::-1])[0], picked[0, :, ::-1])


@pytest.mark.parametrize("counts", [[2, 0, 2, 2], [0, 2, 0, 4], [0, 0, 6], [3, 0, 3]])
def test_picking_stands_runs_of_length_zero(counts: list[int]):
    encoded = blank_rle(2, 3, counts)
    rows, columns = np.array([0, 1, 1]), np.array([0, 0, 2])
    assert np.array_equal(rle.cut([encoded], rows, columns)[0], rle.decode(encoded)[rows][:, columns])


def test_no_masks_are_cut_to_no_masks():
    assert rle.cut([], np.arange(3), np.arange(4)).shape == (0, 3, 4)


def test_damaged_runs_are_not_cut():
    with pytest.raises(InputError, match="do not add up to its size 2x3"):
        rle.cut([blank_rle(2, 3, [1, 2, 2])], np.arange(2), np.arange(3))


# --- runs and polygons


@given(MASKS)
def test_runs_can_be_encoded_again(mask: np.ndarray):
    encoded = rle.encode(mask)
    assert rle.from_runs(rle.runs(encoded), mask.shape) == encoded


@pytest.mark.parametrize("counts", [[5], [-1, 7], [1.5, 4.5], ["a", 6]])
def test_what_is_no_runs_is_refused(counts: list):
    with pytest.raises(InputError, match=r"do not add up to its size \[2, 3\]"):
        rle.from_runs(counts, (2, 3))


def test_polygons_are_joined():
    encoded = rle.from_polygons(
        [np.array([[0, 0], [2, 0], [2, 2], [0, 2]]), np.array([[1, 1], [4, 1], [4, 3], [1, 3]])], (3, 4)
    )
    assert rle.decode(encoded).astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1]]
