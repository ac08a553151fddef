"""Tracks in memory equal those that are read back from the file that is written of them."""

import json

import numpy as np
import pytest

from cropformer import rle
from entitytransfer.clip_result import ClipResult
from entitytransfer.evaluators.clip_tracks import found_tracks, true_tracks
from entitytransfer.readers.ytvis_json import (
    annotated_tracks,
    predicted_tracks,
    read_ytvis_results,
    read_ytvis_truth,
)
from entitytransfer.writers.ytvis import YtvisWriter

from .clip_evaluator_cases import FILES, clip_of, no_tracks, track_pairs, truth_of_tracks

FIELDS = ("areas", "boxes_xyxy", "mean_areas", "category_ids", "scores", "is_crowd")


def assert_same(ours, theirs):
    assert list(map(list, ours.masks)) == list(map(list, theirs.masks))
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


def test_tracks_that_were_found_are_those_of_the_written_file(tmp_path):
    pairs = track_pairs("ytvis")
    with YtvisWriter(tmp_path / "results.json") as writer:
        for result, sample in pairs:
            for track, label, score in zip(result.rles, result.labels.tolist(), result.scores.tolist()):
                writer.write(sample.clip_id, category_id=label + 1, score=score, segmentations=track)
    truth = read_ytvis_truth(FILES["ytvis"][0])
    videos = read_ytvis_results(tmp_path / "results.json", truth).videos
    for result, sample in pairs:
        read = predicted_tracks(videos[sample.clip_id], truth.category_numbers, any_category=False)
        ours = found_tracks(result, sample)
        ours.category_ids[:] += 1
        assert_same(ours, read)
    assert sum(len(result) for result, _ in pairs) == len(json.loads(FILES["ytvis"][1].read_text()))


@pytest.mark.parametrize("by_class", [True, False])
def test_tracks_that_are_annotated_are_those_of_the_file_with_the_crowds_last(by_class):
    truth = read_ytvis_truth(FILES["ytvis"][0])
    crowds = 0
    for _, sample in track_pairs("ytvis"):
        read = annotated_tracks(truth.videos[sample.clip_id], truth.category_numbers)
        ours = true_tracks(sample, by_class=by_class)
        if by_class:
            ours.category_ids[:] += 1
        assert_same(ours, read.select(np.argsort(read.is_crowd, kind="stable")))
        crowds += int(read.is_crowd.sum())
    assert crowds == 1


def test_the_stated_areas_decide_on_size_ranges():
    masks = np.ones((1, 2, 3, 4), dtype=bool)
    truth = truth_of_tracks(masks, [0])
    truth.areas[:] = [[30.0, 0.0]]
    tracks = true_tracks(clip_of(truth, (3, 4), ("0.jpg", "1.jpg")), by_class=True)
    assert (tracks.mean_areas.tolist(), tracks.areas.tolist()) == ([30.0], [[12, 12]])


def test_a_clip_without_tracks():
    sample = clip_of(truth_of_tracks(np.zeros((0, 2, 3, 4), dtype=bool), []), (3, 4), ("0.jpg", "1.jpg"))
    for tracks in (found_tracks(no_tracks(), sample), true_tracks(sample, by_class=False)):
        assert (len(tracks), tracks.areas.shape, tracks.boxes_xyxy.shape) == (0, (0, 2), (0, 2, 4))


def test_runs_that_nobody_should_write_are_put_right():
    sample = clip_of(truth_of_tracks(np.zeros((0, 1, 3, 4), dtype=bool), []), (3, 4), ("0.jpg",))
    runs = {"size": [3, 4], "counts": [2, 3, 0, 2, 5]}
    (track,) = found_tracks(ClipResult.of([[runs]], track_ids=[1], labels=[0], scores=[0.5]), sample).masks
    expected = np.zeros(12, dtype=bool)
    expected[2:7] = True
    np.testing.assert_array_equal(rle.decode(track[0]), expected.reshape(4, 3).T)  # [HW] -> [W,H] -> [H,W]
