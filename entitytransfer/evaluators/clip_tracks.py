"""The tracks of one clip in memory in the terms in which track measures take them, checked as files are.

N tracks · F frames.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cropformer import InputError, rle
from entitytransfer.clip_result import ClipResult
from entitytransfer.clip_sample import ClipSample
from entitytransfer.readers.run_lengths import check_frames
from entitytransfer.readers.ytvis_json import Tracks, mean_areas


def found_tracks(result: ClipResult, sample: ClipSample) -> Tracks:
    """The tracks of a result; labels stand for category ids.

    Raises:
        InputError: a mask is not one of the sample's size.
        ValueError: a track has not one entry for each frame.
    """
    tracks = _measured(result.rles, result.labels, sample, kind="prediction")
    return replace(tracks, mean_areas=mean_areas(tracks.areas), scores=result.scores)


def true_tracks(sample: ClipSample, *, by_class: bool) -> Tracks:
    """The annotated tracks of a clip, whose stated areas decide on their size ranges.

    Args:
        sample: the clip.
        by_class: whether labels stand for category ids; if not, these are as stated, and only order the tracks.

    Raises:
        InputError: the annotation is damaged.
    """
    truth = sample.truth()
    tracks = _measured(truth.rles, truth.labels if by_class else truth.category_ids, sample, kind="annotation")
    return replace(tracks, mean_areas=mean_areas(truth.areas), is_crowd=truth.is_crowd)


def _measured(
    rles: Sequence[Sequence[rle.RLE | None]], category_ids: np.ndarray, sample: ClipSample, *, kind: str
) -> Tracks:
    """Tracks without scores, and without what decides on size ranges."""
    shape = len(rles), len(sample.frame_paths)
    if any(len(track) != shape[1] for track in rles):
        raise ValueError(f"a {kind} of clip {sample.clip_id} has not one entry for each of {shape[1]} frames")
    cells = [one for track in rles for one in track]
    places = np.array([place for place, one in enumerate(cells) if one is not None], dtype=np.int64)

    def refuse(index: int, problem: str) -> InputError:
        track, frame = divmod(int(places[index]), shape[1])
        return InputError(
            f"Clip {sample.clip_id}, {kind} {track}, frame {frame}: {problem}; correct or remove the track."
        )

    visible, visible_areas, visible_boxes = check_frames([cells[place] for place in places], sample.size_hw, refuse)
    areas, boxes_xyxy = np.zeros(len(cells), dtype=np.int64), np.zeros((len(cells), 4), dtype=np.int64)
    areas[places], boxes_xyxy[places] = visible_areas, visible_boxes
    checked = iter(visible)
    return Tracks(
        masks=[[None if one is None else next(checked) for one in track] for track in rles],
        areas=areas.reshape(shape),  # [NF] -> [N,F]
        boxes_xyxy=boxes_xyxy.reshape(*shape, 4),  # [NF,4] -> [N,F,4]
        mean_areas=np.zeros(shape[0]),
        category_ids=np.asarray(category_ids, dtype=np.int64),
        scores=np.zeros(shape[0]),
        is_crowd=np.zeros(shape[0], dtype=bool),
    )
