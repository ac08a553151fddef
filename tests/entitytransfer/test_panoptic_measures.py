"""PQ, VPQ and STQ from tables of pairs against the plain way with pixels, and against numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from benchmarks import scoring_video_panoptic
from benchmarks.plain_video_panoptic import video_pq, video_stq
from entitytransfer.evaluators.panoptic_boundary import boundary_ious
from entitytransfer.evaluators.panoptic_quality import PanopticQuality
from entitytransfer.evaluators.segment_tables import count_pairs, tabulate
from entitytransfer.evaluators.tracking_quality import TrackingQuality
from entitytransfer.evaluators.unit_sums import UnitSums
from entitytransfer.segment_map import SegmentMap

from .panoptic_cases import NUM_CLASSES, clips, segments_of

IS_THING = np.array([True, False, True])


def plain(maps):
    """Frames as the plain way takes them."""
    frames = []
    for one in maps:
        columns = (one.segments.ids, one.segments.classes, one.segments.areas, one.segments.is_crowd)
        listed = {i: (c, a, crowd) for i, c, a, crowd in zip(*(column.tolist() for column in columns))}
        frames.append((lambda ids=one.ids: ids, listed))
    return frames


def frame(rows, classes, **options):
    ids = np.array(rows)
    return SegmentMap(ids, segments_of(ids, classes, **options), "frame")


@settings(deadline=None, max_examples=150)
@given(clips())
def test_windows_match_as_their_pixels_do(clip):
    truths, predictions = clip
    quality = PanopticQuality(IS_THING, windows=(1, 2, 3, 9))
    quality.update(tabulate(truths, predictions))
    for window in (1, 2, 3, 9):
        counts = video_pq(plain(truths), plain(predictions), window=window, num_classes=NUM_CLASSES)
        np.testing.assert_allclose(quality.counts(window), counts, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=150)
@given(clips())
def test_tracks_associate_as_their_pixels_do(clip):
    truths, predictions = clip
    quality = TrackingQuality(IS_THING)
    quality.update(tabulate(truths, predictions))
    ours = quality.compute()
    if not any(one.ids.any() for one in truths):
        assert all(np.isnan(value) for value in ours.values())
        return
    aq, sq = video_stq(plain(truths), plain(predictions), is_thing=IS_THING)
    assert (ours["AQ"], ours["SQ"]) == pytest.approx((aq, sq), rel=0, abs=1e-12)
    assert ours["STQ"] == pytest.approx((aq * sq) ** 0.5, rel=0, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(clips())
def test_corrected_tracking_of_the_truth_itself_is_perfect(clip):
    truths, _ = clip
    same = [
        replace(one, segments=replace(one.segments, is_crowd=np.zeros(len(one.segments.ids), bool))) for one in truths
    ]
    quality = TrackingQuality(IS_THING, mode="corrected")
    quality.update(tabulate(same, same))
    things = any(IS_THING[one.segments.classes].any() for one in same)
    expected = 1 if any(one.ids.any() for one in same) else float("nan")
    assert quality.compute()["SQ"] == pytest.approx(expected, nan_ok=True)
    if things:
        assert quality.compute() == pytest.approx({"STQ": 1, "AQ": 1, "SQ": 1})


def test_an_image_by_hand():
    """Segment 1 of 4 pixels: 3 found, one VOID pixel is not in the union; segment 2 missed; segment 3 is false."""
    truth = frame([[1, 1, 1, 1, 0, 2, 2, 2]], {1: 0, 2: 1})
    predicted = frame([[1, 1, 1, 0, 1, 3, 3, 3]], {1: 0, 3: 0})
    quality = PanopticQuality(IS_THING)
    quality.update(tabulate([truth], [predicted]))
    np.testing.assert_allclose(quality.counts(), [[0.75, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    assert quality.compute() == pytest.approx(
        {
            "PQ": 0.25,
            "SQ": 0.375,
            "RQ": 1 / 3,
            "PQ_th": 0.5,
            "SQ_th": 0.75,
            "RQ_th": 2 / 3,
            "PQ_st": 0,
            "SQ_st": 0,
            "RQ_st": 0,
        }
    )


def test_hidden_area_is_in_the_union():
    truth = frame([[1, 1, 1, 0]], {1: 0}, areas={1: 1})
    quality = PanopticQuality(IS_THING)
    quality.update(tabulate([truth], [frame([[1, 1, 1, 0]], {1: 0})]))
    assert quality.compute()["SQ"] == pytest.approx(0.75)


@pytest.mark.parametrize(("crowd_class", "false_positives"), [(0, 0), (2, 1)])
def test_predictions_on_the_crowd_of_their_class_are_not_false(crowd_class, false_positives):
    truth = frame([[1, 1, 1, 2]], {1: crowd_class, 2: 1}, crowds={1})
    quality = PanopticQuality(IS_THING)
    quality.update(tabulate([truth], [frame([[5, 5, 5, 5]], {5: 0})]))
    assert quality.counts()[0, 2] == false_positives
    assert quality.counts()[:, 3].tolist() == [0, 1, 0]


def test_an_identity_switch_by_hand():
    """One track of 2 frames x 2 pixels, found with another id in each: 2 · (2² / 4) / 4."""
    truths = [frame([[2, 9, 9]], {2: 1, 9: 0})] * 2
    predictions = [frame([[2, id_, id_]], {2: 1, id_: 0}) for id_ in (3, 4)]
    quality = TrackingQuality(IS_THING)
    quality.update(tabulate(truths, predictions))
    assert quality.compute() == pytest.approx({"STQ": 0.5**0.5, "AQ": 0.5, "SQ": 1.0})


def test_the_first_listed_thing_counts_as_a_crowd_unless_corrected():
    truths, predictions = [frame([[1, 1, 2, 2]], {1: 0, 2: 0})], [frame([[3, 0, 4, 4]], {3: 0, 4: 0})]
    tracking = {}
    for mode in ("official", "corrected"):
        quality = TrackingQuality(IS_THING, mode=mode)
        quality.update(tabulate(truths, predictions))
        tracking[mode] = quality.compute()
    assert (tracking["official"]["AQ"], tracking["official"]["SQ"]) == pytest.approx((1, 0.375))
    assert (tracking["corrected"]["AQ"], tracking["corrected"]["SQ"]) == pytest.approx((0.625, 0.75))


def test_a_boundary_is_narrow_and_counts_the_edge_of_the_image():
    ids = np.ones((50, 50), dtype=np.int32)
    ids[:, 25:] = 2
    assert boundary_ious(ids, ids).tolist() == [1, 1]
    one = np.ones_like(ids)
    ring, half_ring = 50 * 50 - 48 * 48, 50 * 25 - 48 * 23
    shared = half_ring - 48  # the inner edge of the half is not on the ring
    np.testing.assert_allclose(boundary_ious(ids, one), [shared / (ring + half_ring - shared)] * 2)


def test_pairs_are_counted():
    first, second = np.array([[0, 0, 1], [1, 1, 0]]), np.array([[5, 5, 5], [-2, 5, 5]])
    columns = [column.tolist() for column in count_pairs(first, second)]
    assert list(zip(*columns)) == [(0, 5, 3), (1, -2, 1), (1, 5, 2)]
    assert [column.size for column in count_pairs(first[:0], second[:0])] == [0, 0, 0]


def test_a_clip_without_frames_has_no_numbers():
    quality = PanopticQuality(IS_THING, windows=(1, 2))
    quality.update(tabulate([], []))
    assert all(np.isnan(value) for value in quality.compute_windows((1, 2)).values())


def test_units_count_as_often_as_they_are_drawn():
    sums = UnitSums(3, 2)
    assert sums.total().tolist() == [[0, 0]] * 3
    sums.append(np.array([0, 2]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    sums.append_dense(np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 0.0]]))
    assert sums.total().tolist() == [[1, 2], [5, 0], [3, 4]]
    sums.append_dense(np.zeros((3, 2)))
    assert sums.total(np.array([0, 0, 2])).tolist() == [[2, 4], [0, 0], [6, 8]]


def test_the_benchmark_compares_equal_numbers(tmp_path):
    scoring_video_panoptic.write_video(tmp_path, size="64x48", frames=9, segments=6)
    ours, theirs = (
        scoring_video_panoptic.measure(contender, tmp_path, plain_frames=8)
        for contender in scoring_video_panoptic.CONTENDERS
    )
    assert ours["check"] == pytest.approx(theirs["check"], abs=1e-8)
    assert 1 < ours["check"] < 7
    assert (ours["frames_run"], theirs["frames_run"]) == (9, 8)
