"""Convexity and simplicity of masks against exact geometry, and against the same definitions on pixels."""

import math

import numpy as np
import pytest
from scipy.spatial import ConvexHull
from skimage.draw import polygon2mask

from cropformer import InputError, rle
from entitytransfer.shapes import PADDING, STEPS, Shape, measure_shape


def measure(mask: np.ndarray) -> Shape:
    shape = measure_shape(rle.encode(mask))
    assert shape is not None
    return shape


def disc(radius: float) -> np.ndarray:
    side = 2 * int(radius) + 9
    rows, columns = np.mgrid[:side, :side] - side / 2
    return rows**2 + columns**2 <= radius**2


def polygon(radii: np.ndarray, *, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """A polygon around the origin with corners at equal angles, float [P,2], and its mask."""
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False) + turn
    corners = radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    side = 2 * int(radii.max()) + 9
    return corners, polygon2mask((side, side), corners + side / 2)


def exact(corners: np.ndarray) -> tuple[float, float, float]:
    """Area, area of the convex hull and perimeter of a polygon."""
    (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, axis=0).T
    area = abs((x * next_y - y * next_x).sum()) / 2
    return area, ConvexHull(corners).volume, np.hypot(next_x - x, next_y - y).sum()


@pytest.mark.parametrize(("radius", "tolerance"), [(10, 0.01), (50, 0.002), (400, 0.0005)])
def test_a_disc_is_as_simple_as_can_be(radius, tolerance):
    shape = measure(disc(radius))
    assert shape.perimeter == pytest.approx(2 * math.pi * radius, rel=tolerance)
    assert shape.simplicity == pytest.approx(1, abs=2 * tolerance)
    assert shape.convexity == pytest.approx(1, abs=1 / radius)  # the corners of the pixels stand out


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 30), (7, 3), (200, 200)])
def test_a_rectangle_is_exactly_convex(size_hw):
    mask = np.zeros((210, 220), dtype=bool)
    mask[4 : 4 + size_hw[0], 6 : 6 + size_hw[1]] = True
    shape = measure(mask)
    assert shape.area == shape.hull_area == size_hw[0] * size_hw[1]
    assert shape.simplicity <= 1


@pytest.mark.parametrize("turn", np.radians([0, 7, 13, 22.5, 31, 45, 58, 80]))
def test_squares_and_stars_at_any_angle(turn):
    for radii in (np.full(4, 300.0), np.array([300.0, 115.0] * 5)):
        corners, mask = polygon(radii, turn=turn)
        area, hull_area, perimeter = exact(corners)
        shape = measure(mask)
        assert shape.area == pytest.approx(area, rel=0.005)
        assert shape.convexity == pytest.approx(area / hull_area, rel=0.01)
        assert shape.perimeter == pytest.approx(perimeter, rel=0.018)
        assert shape.simplicity == pytest.approx(math.sqrt(4 * math.pi * area) / perimeter, rel=0.018)


def test_a_hole_and_a_second_part_add_to_the_border():
    ring = disc(100)
    ring[54:155, 54:155] &= ~disc(46)
    shape = measure(ring)
    assert shape.perimeter == pytest.approx(2 * math.pi * (100 + 46), rel=0.005)
    assert shape.hull_area == measure(disc(100)).hull_area
    twice = measure(np.hstack([disc(100), disc(100)]))
    assert twice.perimeter == pytest.approx(2 * measure(disc(100)).perimeter)
    assert twice.convexity < 0.9


def test_the_edge_of_the_image_is_border():
    shape = measure(np.ones((400, 300), dtype=bool))
    assert shape.perimeter == pytest.approx(1400, rel=0.018)
    assert shape.convexity == 1


def test_two_parts_are_one_shape_by_hand():
    shape = measure(np.array([[True, False, True]]))
    assert (shape.area, shape.hull_area) == (2, 3)


def test_runs_give_what_pixels_give():
    """The same hull over every pixel corner, and the same crossings counted on shifted copies of the mask."""
    generator = np.random.default_rng(0)
    for density in (0.02, 0.3, 0.7, 1.0):
        mask = generator.random((23, 31)) < density
        shape = measure(mask)
        rows, columns = np.nonzero(mask)
        corners = np.concatenate([np.stack([rows + i, columns + j], axis=1) for i in (0, 1) for j in (0, 1)])
        assert shape.hull_area == pytest.approx(ConvexHull(corners).volume)
        assert shape.perimeter == pytest.approx(crossings_of_pixels(mask))


def crossings_of_pixels(mask: np.ndarray) -> float:
    padded = np.pad(mask, PADDING)
    directions = np.array([math.atan2(down, right) for right, down in STEPS])
    gaps = np.diff(np.append(directions, directions[0] + math.pi))
    total = 0.0
    for (right, down), before, after in zip(STEPS, np.roll(gaps, 1), gaps):
        crossed = (padded != np.roll(padded, (down, right), axis=(0, 1))).sum()
        total += (before + after) / 2 * crossed / math.hypot(right, down) / 2
    return total


def test_no_pixel_no_shape():
    assert measure_shape(rle.encode(np.zeros((5, 4), dtype=bool))) is None


def test_runs_of_length_zero_are_nothing():
    """Other writers split a run by one of length zero."""
    split = rle.from_runs([0, 5, 0, 7, 0], (3, 4))
    assert measure_shape(split) == measure(np.ones((3, 4), dtype=bool))


def test_damaged_runs_are_refused():
    with pytest.raises(InputError, match="do not add up to its size"):
        measure_shape(rle.encode(np.ones((5, 4), dtype=bool)) | {"size": [5, 5]})
