"""The map measures and the correction effort: against the plain way, the official parts, and numbers by hand."""

import json
from dataclasses import astuple
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage

from benchmarks import plain_maps
from entitytransfer.evaluators.dichotomous import DichotomousMeasures, measure_map
from entitytransfer.evaluators.human_correction import CorrectionEffort, human_correction_effort
from entitytransfer.evaluators.weighted_f import _continued

DATA = Path(__file__).parents[1] / "data" / "metrics" / "dis5k"
SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def noise(generator, cells, size_hw):
    grid = generator.random((cells, cells), dtype=np.float32)
    return cv2.resize(grid, size_hw[::-1], interpolation=cv2.INTER_CUBIC)


def scene(seed):
    """A map and a mask with thin parts, holes, and borders at the edges of the image."""
    generator = np.random.default_rng(seed)
    size_hw = tuple(int(side) for side in generator.integers(30, 120, 2))
    relief = noise(generator, int(generator.integers(3, 10)), size_hw)
    mask = relief > generator.uniform(0.3, 0.8)
    mask[generator.integers(size_hw[0])] = True
    mask &= generator.random(size_hw) > 0.01
    soft = relief + generator.uniform(0.2, 1.0) * (noise(generator, 25, size_hw) - 0.5)
    return np.clip(200 * soft, 0, 255).astype(np.uint8), mask


def assert_plain(prediction, mask):
    values = plain_maps.stretched(prediction)
    measures = measure_map(prediction, mask)
    for name, value in (plain_maps.pixel_measures(values, mask) | plain_maps.curve_measures(values, mask)).items():
        assert getattr(measures, name) == pytest.approx(value, rel=0, abs=1e-12), name


@pytest.mark.parametrize("seed", range(8))
def test_scenes_measure_as_the_plain_way_does(seed):
    prediction, mask = scene(seed)
    assert_plain(prediction, mask)
    effort = human_correction_effort(prediction > 128, mask)
    assert effort.total > 10
    assert list(astuple(effort)) == plain_maps.correction_effort(prediction > 128, mask)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_map_measures_as_the_plain_way_does(data):
    size_hw = data.draw(SIZES)
    grey = st.integers(0, 255) | st.sampled_from([0, 255])
    prediction = data.draw(arrays(np.uint8, size_hw, elements=grey))
    mask = data.draw(arrays(bool, size_hw))
    assert_plain(prediction, mask)
    metric = DichotomousMeasures()
    metric.update(prediction, mask)
    values = metric.compute()
    assert all(0 <= values[name] <= 1 for name in ("maxF", "meanF", "adpF", "wF", "MAE", "S"))
    assert values["HCE"] == sum(plain_maps.correction_effort(prediction > 128, mask))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_errors_are_continued_as_by_scipys_feature_transform(data):
    mask = data.draw(arrays(bool, data.draw(SIZES)))
    mask[0, 0] = True
    errors = np.arange(1.0, mask.size + 1).reshape(mask.shape)
    rows, columns = ndimage.distance_transform_edt(~mask, return_indices=True, return_distances=False)
    near = ndimage.binary_dilation(mask, np.ones((7, 7)))
    assert np.array_equal(_continued(errors, mask)[near], errors[rows, columns][near])


def test_the_four_parts_of_every_image_are_the_official_ones():
    parts = json.loads((DATA / "expected.json").read_text())["HCE"]
    parts = parts["official_per_image_FPpts_FPindep_FNpts_FNindep_total"]
    for name, expected in parts.items():
        predicted, mask = (
            np.asarray(Image.open(folder / name)) > 128
            for folder in (DATA / "pred" / "DIS-VD", DATA / "DIS5K" / "DIS-VD" / "gt")
        )
        effort = human_correction_effort(predicted, mask)
        assert [*astuple(effort), effort.total] == expected


def block(rows, columns):
    mask = np.zeros((60, 80), dtype=bool)
    mask[rows, columns] = True
    return mask


def test_the_effort_of_a_right_mask_is_none():
    mask = block(slice(10, 50), slice(10, 40))
    assert human_correction_effort(mask, mask).total == 0


def test_an_isolated_region_costs_one_click():
    mask, apart = block(slice(10, 50), slice(5, 40)), block(slice(20, 40), slice(50, 70))
    assert human_correction_effort(mask | apart, mask) == CorrectionEffort(0, 1, 0, 0)
    assert human_correction_effort(mask | apart, mask, relax=20) == CorrectionEffort(0, 0, 0, 0)


def test_a_straight_border_costs_its_two_ends():
    """The surplus right of the mask touches it along one straight line."""
    mask, surplus = block(slice(10, 50), slice(5, 40)), block(slice(10, 50), slice(40, 60))
    assert human_correction_effort(mask | surplus, mask) == CorrectionEffort(2, 0, 0, 0)


def only(prediction, mask, **options):
    metric = DichotomousMeasures(**options)
    metric.update(prediction, mask)
    return metric.compute()


def test_the_right_map_has_the_best_numbers():
    mask = block(slice(10, 50), slice(10, 40))
    values = only(mask.astype(np.uint8) * 255, mask)
    best = {"maxF": 1, "wF": 1, "MAE": 0, "S": 1, "HCE": 0, "adpF": 1}
    assert {name: values[name] for name in best} == pytest.approx(best)
    assert values["maxE"] == pytest.approx(mask.size / (mask.size - 1))


def test_an_empty_mask_has_the_defined_values():
    nothing = np.zeros((6, 10), dtype=bool)
    black = only(np.zeros((6, 10), dtype=np.uint8), nothing)
    assert [black[name] for name in ("maxF", "wF", "MAE", "S", "HCE")] == [0, 0, 0, 1, 0]
    assert black["maxE"] == pytest.approx(60 / 59)
    white = only(np.full((6, 10), 255, dtype=np.uint8), nothing)
    assert [white[name] for name in ("maxF", "wF", "MAE", "S", "maxE")] == [0, 0, 1, 0, 0]


def test_a_map_of_one_grey_is_not_stretched():
    mask = block(slice(0, 30), slice(0, 80))
    assert only(np.full((60, 80), 51, dtype=np.uint8), mask)["MAE"] == pytest.approx(0.5 * 0.8 + 0.5 * 0.2)


def test_others_are_stretched_but_not_for_the_effort():
    mask = block(slice(10, 50), slice(10, 40))
    dark = mask.astype(np.uint8) * 100
    assert only(dark, mask)["MAE"] == 0
    assert only(dark, mask)["HCE"] == human_correction_effort(np.zeros_like(mask), mask).total > 0


def test_a_mask_in_the_last_corner_leaves_quadrants_without_pixels():
    mask = np.zeros((8, 9), dtype=bool)
    mask[-1, -1] = True
    assert 0 < only(np.full((8, 9), 9, dtype=np.uint8), mask)["S"] < 1


def test_the_order_of_pixels_in_memory_does_not_matter():
    prediction, mask = scene(3)
    by_columns = only(np.asfortranarray(prediction), np.asfortranarray(mask))
    assert by_columns == pytest.approx(only(prediction, mask), rel=0, abs=1e-12)


def test_no_image_has_no_numbers():
    assert all(np.isnan(value) for value in DichotomousMeasures().compute().values())


@pytest.mark.parametrize(
    "prediction, mask",
    [
        (np.zeros((4, 4)), np.zeros((4, 4), dtype=bool)),
        (np.zeros((4, 4), dtype=np.uint8), np.zeros((4, 4), dtype=np.uint8)),
        (np.zeros((4, 4), dtype=np.uint8), np.zeros((4, 5), dtype=bool)),
        (np.zeros((0, 4), dtype=np.uint8), np.zeros((0, 4), dtype=bool)),
    ],
)
def test_arrays_of_other_types_or_sizes_are_refused(prediction, mask):
    with pytest.raises(ValueError, match="a map is uint8 and a mask bool|map and mask must have one size"):
        DichotomousMeasures().update(prediction, mask)
