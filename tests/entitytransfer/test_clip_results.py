"""TrackResults and ClipPanopticResults against the official numbers, against ``score``, and by hand."""

import json
import math

import numpy as np
import pytest

from cropformer import InputError, rle
from entitytransfer.classes import Classes
from entitytransfer.clip_result import ClipResult
from entitytransfer.evaluators.clip_results import ClipPanopticResults, TrackResults
from entitytransfer.score_task import score

from .clip_evaluator_cases import (
    FILES,
    clip_of,
    encoded,
    no_tracks,
    panoptic_clip_pairs,
    perfect_tracks,
    track_classes,
    track_pairs,
    truth_of_tracks,
)
from .evaluator_cases import DATA, feed

CLASSES = Classes(("person", "sky"), (1, 2), (True, False))
SIZE_HW, NAMES = (4, 20), ("0.jpg", "1.jpg", "2.jpg")
SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
LIMITS = {"AR_max0": "AR1", "AR_max1": "AR10", "AR_max2": "AR100"}


def columns(*spans: tuple[int, int]) -> np.ndarray:
    """A track that covers these columns of one frame after the other: bool [F,H,W]."""
    track = np.zeros((len(spans), *SIZE_HW), dtype=bool)
    for mask, (first, last) in zip(track, spans):
        mask[:, first:last] = True
    return track


def result_of(masks: np.ndarray, labels: list[int], scores: list[float]) -> ClipResult:
    return ClipResult.of(encoded(masks), track_ids=range(1, len(masks) + 1), labels=labels, scores=scores)


def official(name: str) -> dict:
    return json.loads((DATA / name / "expected.json").read_text())


def known(metrics: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


# --- tracks


@pytest.mark.parametrize(
    ("name", "part", "with_classes"),
    [
        ("ytvis", "values", True),
        ("ytvis", "class_agnostic_useCats0", False),
        ("uvo", "video", False),
        ("uvo", "video", True),
    ],
)
def test_tracks_have_the_official_numbers(name, part, with_classes):
    metric = feed(TrackResults(track_classes(name) if with_classes else None), track_pairs(name))
    metrics = metric.compute()
    values = {LIMITS.get(key, key): value for key, value in official(name)[part].items()}
    expected = {key: math.nan if values[key] == -1 else values[key] for key in SUMMARY}
    assert {key: metrics[key] for key in SUMMARY} == pytest.approx(expected, rel=0, abs=1e-12, nan_ok=True)
    ground_truth, predictions = FILES[name]
    of_files = {"ground_truth": ground_truth, "predictions": predictions, "class_agnostic": not with_classes}
    assert known(metrics) == score("ytvis", **of_files)


def test_only_the_best_of_a_clip_count():
    metrics = feed(TrackResults(track_classes("ytvis"), top_k=3), track_pairs("ytvis")).compute()
    ground_truth, predictions = FILES["ytvis"]
    assert known(metrics) == score("ytvis", ground_truth=ground_truth, predictions=predictions, top_k=3)


def test_the_order_of_the_clips_does_not_matter_and_a_reset_forgets_them():
    pairs = track_pairs("ytvis")
    metric = feed(TrackResults(track_classes("ytvis")), pairs)
    first = metric.compute()
    metric.reset()
    assert metric.compute() != first
    assert feed(metric, pairs[::-1]).compute() == first


def test_units_count_as_often_as_they_are_named():
    pairs = track_pairs("uvo")
    metric = feed(TrackResults(), pairs)
    assert known(metric.compute(np.array([0]))) == known(feed(TrackResults(), pairs[:1]).compute())
    assert known(metric.compute(np.arange(len(pairs)))) == known(metric.compute())
    twice = known(metric.compute(np.array([1, 0, 1])))
    assert twice == known(metric.compute(np.array([0, 1, 1]))) != known(metric.compute(np.array([0, 1])))


def test_a_track_is_one_region_of_space_and_time():
    """Right in two frames of three, absent in the third: an IoU of 2/3, which counts up to the threshold of .65."""
    truth = truth_of_tracks(columns((0, 5), (5, 10), (10, 15))[None], [0])
    found = result_of(columns((0, 5), (5, 10), (0, 0))[None], [0], [0.5])
    metrics = feed(TrackResults(CLASSES), [(found, clip_of(truth, SIZE_HW, NAMES))]).compute()
    assert metrics["AP"] == pytest.approx(0.4)
    assert (metrics["AP50"], metrics["AP75"]) == (pytest.approx(1.0), 0.0)


def test_a_crowd_is_neither_to_be_found_nor_wrong_to_be_found():
    masks = np.stack([columns((0, 5), (0, 5), (0, 5)), columns((9, 20), (9, 20), (9, 20))])
    sample = clip_of(truth_of_tracks(masks, [0, 0], crowds=[1]), SIZE_HW, NAMES)
    for found in (result_of(masks, [0, 0], [0.5, 0.9]), result_of(masks[:1], [0], [0.5])):
        assert feed(TrackResults(CLASSES), [(found, sample)]).compute()["AP"] == pytest.approx(1.0)


# --- panoptic


def test_panoptic_clips_have_the_official_numbers():
    metrics = feed(ClipPanopticResults(track_classes("vipseg")), panoptic_clip_pairs()).compute()
    ground_truth, predictions = FILES["vipseg"]
    of_files = score("vipseg", ground_truth=ground_truth, predictions=predictions)
    assert of_files.keys() == metrics.keys()
    assert metrics == pytest.approx(of_files, rel=0, abs=1e-9)


@pytest.mark.parametrize("options", [{"windows": (1, 3)}, {"stq_mode": "corrected"}])
def test_panoptic_options_mean_what_they_mean_in_score(options):
    metrics = feed(ClipPanopticResults(track_classes("vipseg"), **options), panoptic_clip_pairs()).compute()
    ground_truth, predictions = FILES["vipseg"]
    of_files = score("vipseg", ground_truth=ground_truth, predictions=predictions, **options)
    assert metrics == pytest.approx(of_files, rel=0, abs=1e-9)


def test_panoptic_clips_are_resampled_and_forgotten():
    pairs = panoptic_clip_pairs()
    metric = feed(ClipPanopticResults(track_classes("vipseg")), pairs)
    ids = sorted(sample.clip_id for _, sample in pairs)
    for unit, clip_id in enumerate(ids):
        alone = [pair for pair in pairs if pair[1].clip_id == clip_id]
        expected = feed(ClipPanopticResults(track_classes("vipseg")), alone).compute()
        assert metric.compute(np.array([unit])) == pytest.approx(expected, nan_ok=True, abs=1e-12)
    metric.reset()
    assert math.isnan(metric.compute()["VPQ"])


def test_a_switch_of_ids_costs_what_it_must():
    """Every frame is right, but the person is another one from the second on."""
    person, sky = columns((0, 10), (0, 10), (0, 10)), columns((10, 20), (10, 20), (10, 20))
    sample = clip_of(truth_of_tracks(np.stack([sky, person]), [1, 0]), SIZE_HW, NAMES)
    early, late = person.copy(), person.copy()
    early[1:], late[:1] = False, False
    found = result_of(np.stack([sky, early, late]), [1, 0, 0], [1.0, 1.0, 1.0])
    metrics = feed(ClipPanopticResults(CLASSES, windows=(1, 3)), [(found, sample)]).compute()
    assert metrics["VPQ_st"] == pytest.approx(1.0)
    # One frame: all right. All three: the later one has 2/3 of the pixels, the earlier one is a false positive.
    assert metrics["VPQ_th"] == pytest.approx((1 + 2 / 3 / 1.5) / 2)
    assert metrics["AQ"] == pytest.approx((2 / 3) ** 2 + (1 / 3) ** 2)


def test_of_tracks_that_overlap_the_first_keeps_the_pixels():
    truth = truth_of_tracks(np.stack([columns((0, 10)), columns((10, 20))]), [0, 1])
    sample = clip_of(truth, SIZE_HW, NAMES[:1])
    found = result_of(np.stack([columns((0, 10)), columns((0, 20)), columns((2, 9))]), [0, 1, 0], [0.1, 0.9, 0.9])
    assert feed(ClipPanopticResults(CLASSES, windows=(1,)), [(found, sample)]).compute()["VPQ"] == pytest.approx(1.0)


# --- both


@pytest.mark.parametrize("build", [TrackResults, ClipPanopticResults])
def test_nothing_found_is_the_worst_and_all_found_the_best(build):
    masks = np.stack([columns((10, 20), (9, 20), (8, 20)), columns((0, 5), (0, 0), (0, 8))])
    sample = clip_of(truth_of_tracks(masks, [1, 0]), SIZE_HW, NAMES)
    name = "AP" if build is TrackResults else "STQ"  # VPQ needs six frames
    assert feed(build(CLASSES), [(perfect_tracks(sample), sample)]).compute()[name] == pytest.approx(1.0)
    assert feed(build(CLASSES), [(no_tracks(), sample)]).compute()[name] == 0.0


@pytest.mark.parametrize("build", [TrackResults, ClipPanopticResults])
def test_a_mask_of_another_size_is_refused(build):
    sample = clip_of(truth_of_tracks(columns((0, 5))[None], [0]), SIZE_HW, NAMES[:1])
    wrong = ClipResult.of([[rle.encode(np.ones((4, 19), dtype=bool))]], track_ids=[1], labels=[0], scores=[1])
    with pytest.raises(InputError, match=r"^Clip 1.*prediction.*0.*size \[4, 19\].*correct or remove the track.$"):
        build(CLASSES).update(wrong, sample)


def test_what_no_segmenter_says_is_an_error():
    sample = clip_of(truth_of_tracks(columns((0, 5))[None], [0]), SIZE_HW, NAMES[:1])
    with pytest.raises(ValueError, match="labels must be below 2"):
        TrackResults(CLASSES).update(result_of(columns((0, 5))[None], [2], [1.0]), sample)
    with pytest.raises(ValueError, match="not one entry for each of 1 frames"):
        TrackResults(CLASSES).update(result_of(columns((0, 5), (0, 5))[None], [0], [1.0]), sample)
