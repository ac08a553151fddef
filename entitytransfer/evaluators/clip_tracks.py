"""The tracks of a clip that is being segmented, as `VideoAP` takes them: equal to those that a written file gives.

N tracks · F frames.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from cropformer import rle
from entitytransfer.readers.ytvis_json import Tracks, mean_areas
from entitytransfer.tracklets import FrameResult


@dataclass
class _Track:
    """What a clip shows of one track: masks, areas and boxes by place of the frame, and its scores and labels."""

    masks: dict[int, rle.RLE] = field(default_factory=dict)
    areas: dict[int, int] = field(default_factory=dict)
    boxes_xyxy: dict[int, list[float]] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    labels: Counter[int] = field(default_factory=Counter)


def gather_tracks(frames: Iterable[FrameResult]) -> Tracks:
    """Take the frames of one clip as they come; of each only its masks are kept.

    As in the results that `ClipWriter` writes, tracks are in the order of their ids, the score is the mean over the
    frames that show the track, and the category is 1 + the label that most of them have.

    Args:
        frames: F results, such as a `SegmentedClip`.
    """
    found: dict[int, _Track] = {}
    num_frames = 0
    for frame in frames:
        _add(found, frame, num_frames)
        num_frames += 1
    tracks = [track for _, track in sorted(found.items())]
    places = range(num_frames)
    areas = np.array([[track.areas.get(place, 0) for place in places] for track in tracks], dtype=np.int64)
    areas = areas.reshape(len(tracks), num_frames)  # [N,F]
    nowhere = [0.0] * 4
    boxes_xyxy = [[track.boxes_xyxy.get(place, nowhere) for place in places] for track in tracks]
    return Tracks(
        masks=[[track.masks.get(place) for place in places] for track in tracks],
        areas=areas,
        boxes_xyxy=np.array(boxes_xyxy, dtype=np.int64).reshape(*areas.shape, 4),  # [N][F][4] -> [N,F,4]
        mean_areas=mean_areas(areas),
        category_ids=np.array([1 + _most_frequent(track.labels) for track in tracks], dtype=np.int64),
        scores=np.array([math.fsum(track.scores) / len(track.scores) for track in tracks], dtype=np.float64),
        is_crowd=np.zeros(len(tracks), dtype=bool),
    )


def _add(found: dict[int, _Track], frame: FrameResult, place: int) -> None:
    entities = frame.entities
    columns = (frame.track_ids, entities.areas(), entities.boxes_xyxy(), entities.scores, entities.labels)
    for encoded, track_id, area, box_xyxy, score, label in zip(entities.rles, *(column.tolist() for column in columns)):
        track = found.setdefault(track_id, _Track())
        track.masks[place] = encoded
        track.areas[place] = area
        track.boxes_xyxy[place] = box_xyxy
        track.scores.append(score)
        track.labels[label] += 1


def _most_frequent(labels: Counter[int]) -> int:
    """Of equally frequent ones the lowest."""
    return min(labels, key=lambda label: (-labels[label], label))
