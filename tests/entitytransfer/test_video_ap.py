"""VideoAP against every track IoU and class of the official tool, and against cases computed by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cropformer import rle
from entitytransfer.evaluators.video_ap import VideoAP, track_ious
from entitytransfer.readers.ytvis_json import (
    Tracks,
    annotated_tracks,
    predicted_tracks,
    read_ytvis_results,
    read_ytvis_truth,
)

DATA = Path(__file__).parents[1] / "data" / "metrics"
YTVIS = DATA / "ytvis/ytvis_2019/valid.json", DATA / "ytvis/results.json", "track_iou"
UVO = DATA / "uvo/VideoDenseSet/UVO_video_val_dense.json", DATA / "uvo/results_video_dense.json", "video_track_iou"
SIZE_HW = (20, 30)


def read(ground_truth, predictions):
    """Video id → predicted and annotated tracks; and category id → number."""
    truth = read_ytvis_truth(ground_truth)
    results = read_ytvis_results(predictions, truth)
    numbers = truth.category_numbers
    pairs = {
        video_id: (
            predicted_tracks(results.videos[video_id], numbers, any_category=False),
            annotated_tracks(video, numbers),
        )
        for video_id, video in truth.videos.items()
    }
    return pairs, numbers


@pytest.mark.parametrize("ground_truth, predictions, key", [YTVIS, UVO], ids=["ytvis", "uvo"])
def test_every_track_iou_equals_the_official_one(ground_truth, predictions, key):
    folder = ground_truth.relative_to(DATA).parts[0]
    official = json.loads((DATA / folder / "expected.json").read_text())[key]
    pairs, numbers = read(ground_truth, predictions)
    for name, matrix in official.items():
        video_id, category_id = (int(part.lstrip("videocat")) for part in name.split("_"))
        detections, truths = (
            tracks.select(np.flatnonzero(tracks.category_ids == numbers[category_id])) for tracks in pairs[video_id]
        )
        ious = track_ious(detections.best(100), truths)
        np.testing.assert_allclose(ious, np.array(matrix).reshape(ious.shape), rtol=0, atol=1e-12)


def test_the_ap_of_every_class_equals_the_official_one():
    pairs, numbers = read(*YTVIS[:2])
    metric = VideoAP(list(numbers.values()))
    for detections, truths in pairs.values():
        metric.update(detections, truths)
    precision, _ = metric.accumulate()
    official = json.loads((DATA / "ytvis/expected.json").read_text())["per_category_AP"]
    for category_id, value in official.items():
        of_class = precision[:, :, numbers[int(category_id)] - 1, 0, -1]
        assert of_class.mean() == pytest.approx(-1 if value is None else value, rel=0, abs=1e-12)


def box(x0, x1):
    mask = np.zeros(SIZE_HW, dtype=bool)
    mask[:, x0:x1] = True
    return mask


def tracks(*frames_of_tracks, scores=None, crowd=None):
    """Tracks from bool masks or None."""
    count = len(frames_of_tracks)
    masks = [[None if mask is None else rle.encode(mask) for mask in frames] for frames in frames_of_tracks]
    areas = np.array([[0 if mask is None else mask.sum() for mask in frames] for frames in frames_of_tracks])
    boxes = [[np.zeros(4) if mask is None else rle.bounding_box_xyxy(mask) for mask in frames] for frames in masks]
    return Tracks(
        masks=masks,
        areas=areas,
        boxes_xyxy=np.array(boxes, dtype=np.int64),
        mean_areas=np.array([row[row > 0].mean() if row.any() else 0.0 for row in areas]),
        category_ids=np.ones(count, dtype=np.int64),
        scores=np.zeros(count) if scores is None else np.array(scores),
        is_crowd=np.zeros(count, dtype=bool) if crowd is None else np.array(crowd),
    )


def test_a_frame_where_only_one_of_two_tracks_is_visible_adds_to_the_union():
    truth = tracks([box(0, 10), box(0, 10), None])
    detection = tracks([box(5, 10), None, box(0, 5)])
    # Intersection 5 columns; union 10 + 10 + 5.
    assert track_ious(detection, truth).item() == pytest.approx(5 / 25)


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 4), min_size=2, max_size=6), st.floats(0.05, 1.0))
def test_only_what_is_below_the_threshold_may_be_left_out(spans, at_least):
    """Each track has two frames, empty where the span is."""
    some = tracks(*[[box(a, b) if a < b else None, box(c, d)] for a, b, c, d in spans])
    exact = track_ious(some, some)
    np.testing.assert_array_equal(np.diag(exact), some.areas.any(axis=1))
    bounded = track_ious(some, some, at_least=at_least)
    np.testing.assert_array_equal(np.where(exact >= at_least, exact, 0), np.where(bounded >= at_least, bounded, 0))


def test_a_pair_at_the_threshold_is_not_left_out():
    """220 of 400 pixels, where 0.55 * 400 is rounded to more than 220."""
    assert track_ious(tracks([box(0, 11)]), tracks([box(0, 20)]), at_least=0.55).item() == 0.55


def test_a_track_without_pixels_overlaps_nothing():
    assert track_ious(tracks([None, None]), tracks([None, None])).item() == 0.0


def test_detections_on_a_crowd_count_neither_way():
    truth = tracks([box(0, 10)], [box(10, 30)], crowd=[False, True])
    detections = tracks([box(10, 30)], [box(10, 30)], [box(0, 10)], scores=[0.9, 0.8, 0.1])
    metric = VideoAP(None)
    metric.update(detections, truth)
    metrics = metric.compute()
    assert metrics["AP"] == pytest.approx(1.0)
    assert metrics["AR1"] == 0.0
    assert metrics["AR100"] == 1.0


def test_of_equal_ious_the_last_ground_truth_is_taken():
    """The second detection fits only the first ground truth, which must still be free."""
    truth = tracks([box(0, 10)], [box(10, 20)])
    first, second = [box(0, 20)], [box(0, 9)]
    metric = VideoAP(None, iou_thresholds=(0.5,))
    metric.update(tracks(first, second, scores=[0.9, 0.8]), truth)
    assert metric.compute()["AR100"] == 1.0


def test_equal_scores_rank_in_input_order():
    truth = tracks([box(0, 10)])
    right, wrong = [box(0, 10)], [box(20, 30)]
    for detections, ap in (((right, wrong), 1.0), ((wrong, right), 0.5)):
        metric = VideoAP(None)
        metric.update(tracks(*detections, scores=[0.5, 0.5]), truth)
        assert metric.compute()["AP"] == pytest.approx(ap)


def test_nothing_predicted_is_zero_and_nothing_annotated_is_undefined():
    nothing = tracks([None]).select(np.zeros(0, dtype=np.int64))
    metric = VideoAP([1])
    metric.update(nothing, tracks([box(0, 10)]))
    assert metric.compute()["AP"] == 0.0
    metric = VideoAP([1])
    metric.update(tracks([box(0, 10)], scores=[0.5]), nothing)
    assert np.isnan(metric.compute()["AP"])


def test_a_video_drawn_twice_counts_twice():
    truth = tracks([box(0, 10)])
    metric = VideoAP([1])
    metric.update(tracks([box(0, 10)], scores=[0.9]), truth)
    metric.update(tracks([box(20, 30)], scores=[0.4]), truth)
    assert metric.compute(np.array([0, 0, 1]))["AR100"] == pytest.approx(2 / 3)
    assert metric.compute(np.array([1, 1]))["AP"] == 0.0
