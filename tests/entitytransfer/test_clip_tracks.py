"""Tracks that are scored while a clip runs: the same numbers as the file that is written of it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cropformer import Entities, rle
from entitytransfer.clip_writer import ClipWriter
from entitytransfer.evaluators.clip_tracks import gather_tracks
from entitytransfer.evaluators.video_ap import VideoAP
from entitytransfer.readers.ytvis_json import annotated_tracks, read_ytvis_truth
from entitytransfer.score_task import score
from entitytransfer.tracklets import FrameResult

SIZE_HW, FRAMES, CLASSES = (12, 16), 5, 2
IMAGE = np.zeros((*SIZE_HW, 3), dtype=np.uint8)


def clip(generator):
    """Frames with the tracks 3, 5, 8, 9, each in most of them, at random places and with random scores."""
    for index in range(FRAMES):
        track_ids = np.flatnonzero(generator.uniform(size=10) < 0.8)
        track_ids = track_ids[np.isin(track_ids, (3, 5, 8, 9))]
        masks = generator.integers(0, 12, size=SIZE_HW) < track_ids[:, None, None]
        scores, labels = generator.uniform(size=len(masks)), generator.integers(0, CLASSES, size=len(masks))
        entities = Entities.from_rles(SIZE_HW, [rle.encode(mask) for mask in masks], scores, labels, sort=False)
        yield FrameResult(index, index / 10, entities, track_ids, IMAGE)


def write_truth(path, clips):
    """Annotate tracks of the clips, each a frame late, in categories of their own."""
    annotations = []
    for video_id, frames in enumerate(clips, start=1):
        tracks = gather_tracks(frames)
        for masks in tracks.masks:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": video_id,
                    "category_id": len(annotations) % CLASSES + 1,
                    "iscrowd": 0,
                    "segmentations": [*masks[1:], masks[0]],
                }
            )
    size = {"height": SIZE_HW[0], "width": SIZE_HW[1], "length": FRAMES}
    videos = [{"id": video_id} | size for video_id in range(1, len(clips) + 1)]
    categories = [{"id": number, "name": str(number)} for number in range(1, CLASSES + 1)]
    path.write_text(json.dumps({"videos": videos, "categories": categories, "annotations": annotations}))


def write_results(path, clips):
    """One list of what `ClipWriter` writes of each clip."""
    results = []
    for video_id, frames in enumerate(clips, start=1):
        options = {"formats": ("ytvis",), "fps": 10, "size_hw": SIZE_HW, "video_id": video_id}
        with ClipWriter(path.parent, f"clip{video_id}", **options) as writer:
            for frame in frames:
                writer.write(frame)
        results += json.loads((path.parent / f"clip{video_id}_ytvis.json").read_text())
    path.write_text(json.dumps(results))


@pytest.mark.parametrize("class_agnostic", [True, False])
def test_a_running_evaluation_equals_the_score_of_the_written_file(tmp_path, class_agnostic):
    generator = np.random.default_rng(4)
    clips = [list(clip(generator)) for _ in range(3)]
    write_truth(tmp_path / "gt.json", clips)
    write_results(tmp_path / "pred.json", clips)
    thresholds = (0.1, 0.3, 0.5)
    files = {"ground_truth": tmp_path / "gt.json", "predictions": tmp_path / "pred.json"}
    of_file = score("ytvis", **files, class_agnostic=class_agnostic, iou_thresholds=thresholds)
    truth = read_ytvis_truth(tmp_path / "gt.json")
    metric = VideoAP(None if class_agnostic else [1, 2], iou_thresholds=thresholds)
    for frames, video in zip(clips, truth.videos.values()):
        metric.update(gather_tracks(iter(frames)), annotated_tracks(video, truth.category_numbers))
    running = metric.compute()
    assert 0 < running["AP"] < 1
    assert {name: None if np.isnan(value) else value for name, value in running.items()} == of_file


def test_a_track_has_its_mean_score_and_its_most_frequent_label():
    mask = np.zeros(SIZE_HW, dtype=bool)
    mask[:2] = True
    seen = Entities.from_rles(SIZE_HW, [rle.encode(mask)], [0.5], [1])
    frames = [FrameResult(0, 0.0, seen, np.array([7]), IMAGE)]
    frames += [replace(frames[0], entities=Entities.empty(SIZE_HW), track_ids=np.zeros(0, dtype=np.int64))]
    frames += [replace(frames[0], entities=replace(seen, scores=np.float32([0.25]), labels=np.array([0])))]
    tracks = gather_tracks(frames)
    assert tracks.scores.tolist() == [0.375]
    assert tracks.category_ids.tolist() == [1]
    assert tracks.areas.tolist() == [[32, 0, 32]]
    assert tracks.mean_areas.tolist() == [32.0]
    assert tracks.masks == [[rle.encode(mask), None, rle.encode(mask)]]


def test_a_clip_without_entities_has_no_tracks():
    empty = FrameResult(0, 0.0, Entities.empty(SIZE_HW), np.zeros(0, dtype=np.int64), IMAGE)
    tracks = gather_tracks([empty])
    assert len(tracks) == 0
    assert tracks.areas.shape == (0, 1)
