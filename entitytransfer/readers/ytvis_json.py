"""YouTube-VIS ground truth and results, video by video: every record checked, every mask a sound RLE.

UVO's video files have the same format. N tracks · F frames · H, W image pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cropformer import InputError, rle
from entitytransfer.readers.json_file import check_fields
from entitytransfer.readers.json_lists import GroupedRecords, RecordList, scan_list, scan_object
from entitytransfer.readers.records import Id, Record, by_id, is_finite, records, shown
from entitytransfer.readers.run_lengths import check_frames


@dataclass(frozen=True)
class Tracks:
    """The predicted or annotated tracks of one video.

    Attributes:
        masks: N tracks of F sound RLEs, None where the track is not visible.
        areas: pixels of each mask, int64 [N,F], 0 for none.
        boxes_xyxy: of each mask in pixels, right and bottom exclusive, int64 [N,F,4], 0 for none.
        mean_areas: over the frames in which a track has pixels, float64 [N]; it decides on the size range.
        category_ids: int64 [N].
        scores: float64 [N], 0 for ground truth.
        is_crowd: bool [N], False for predictions.
    """

    masks: Sequence[Sequence[rle.RLE | None]]
    areas: np.ndarray
    boxes_xyxy: np.ndarray
    mean_areas: np.ndarray
    category_ids: np.ndarray
    scores: np.ndarray
    is_crowd: np.ndarray

    def __len__(self) -> int:
        """Number of tracks."""
        return len(self.masks)

    def select(self, indices: np.ndarray) -> "Tracks":
        """Some of the tracks, in the order of their indices."""
        arrays = (self.areas, self.boxes_xyxy, self.mean_areas, self.category_ids, self.scores, self.is_crowd)
        return Tracks([self.masks[index] for index in indices.tolist()], *(array[indices] for array in arrays))

    def best(self, limit: int) -> "Tracks":
        """The ``limit`` tracks with the highest scores, best first; of equal ones the first."""
        return self.select(np.argsort(-self.scores, kind="stable")[:limit])

    def keep_best(self, top_k: int | None) -> "Tracks":
        """The same tracks as `best` in the order in which they are; None = all."""
        return self.select(np.sort(np.argsort(-self.scores, kind="stable")[:top_k]))


@dataclass(frozen=True)
class Video:
    """One video: its frame size, number of frames, and where its tracks stand in their file.

    Attributes:
        size_hw: height and width in pixels.
        num_frames: F.
        tracks: those of all videos of the file.
        index: the place of this one among the videos.
    """

    size_hw: tuple[int, int]
    num_frames: int
    tracks: GroupedRecords
    index: int

    def __len__(self) -> int:
        """Number of tracks."""
        return int(self.tracks.counts()[self.index])

    def read(self) -> list[Record]:
        """The records of its tracks."""
        return self.tracks.read(self.index, self.index + 1)[0]


@dataclass(frozen=True)
class YtvisFile:
    """Ground truth or results, by video id in ascending order; every video of the ground truth is there.

    Attributes:
        videos: video id → video.
        category_numbers: the file's own category id → number from 1, in ascending order of the ids.
    """

    videos: dict[Id, Video]
    category_numbers: dict[Id, int]


def read_ytvis_truth(path: Path) -> YtvisFile:
    """Index a ground-truth file.

    Raises:
        InputError: the file is not that, or a record is damaged or contradicts another; with file and record.
    """
    return index_ytvis(scan_ytvis(path), path)


def scan_ytvis(path: Path, *, may_lack_annotations: bool = False) -> dict[str, Any]:
    """Scan a ground-truth file: its ``videos`` and ``categories``, and where its ``annotations`` stand.

    Args:
        path: the file.
        may_lack_annotations: whether a file without annotations is accepted, as the servers' sets have.

    Raises:
        InputError: the file is not that.
    """
    lists = {"annotations": ("annotation", ("id", "video_id"))}
    fields = ("videos", "categories")
    content = scan_object(path, lists=lists, fields=fields, may_lack_lists=may_lack_annotations)
    check_fields(content, fields, path=path)
    return content


def index_ytvis(content: dict[str, Any], path: Path) -> YtvisFile:
    """Sort what `scan_ytvis` found by videos. Raises InputError as `read_ytvis_truth` does."""
    listed = by_id(records(content["videos"], source=path, kind="video"))
    categories = by_id(records(content["categories"], source=path, kind="category"))
    content["annotations"].check_unique("id")
    shapes = {video_id: (video.size_hw(), _num_frames(video)) for video_id, video in listed.items()}
    return _sort_tracks(content["annotations"], shapes, {one: number for number, one in enumerate(categories, start=1)})


def read_ytvis_results(path: Path, truth: YtvisFile) -> YtvisFile:
    """Index a result file for this ground truth: a JSON list of video_id, category_id, score and segmentations.

    `writers.ytvis` writes one.

    Raises:
        InputError: the file is not that, or a prediction is about an unknown video; with file and record.
    """
    predictions = scan_list(path, "prediction", fields=("video_id",))
    shapes = {video_id: (video.size_hw, video.num_frames) for video_id, video in truth.videos.items()}
    return _sort_tracks(predictions, shapes, truth.category_numbers)


def annotated_tracks(video: Video, category_numbers: dict[Id, int]) -> Tracks:
    """Read the ground truth of a video; its ``areas``, if there, decide on size ranges, as in YTVOSeval."""
    return tracks_and_areas(video, category_numbers)[0]


def tracks_and_areas(video: Video, category_numbers: dict[Id, int]) -> tuple[Tracks, np.ndarray]:
    """What `annotated_tracks` reads, and the area of every track in every frame as it is stated, float64 [N,F]."""
    listed = video.read()
    masks, areas, boxes_xyxy = _masks(listed, video)
    stated = np.zeros(areas.shape)
    for row, one in enumerate(listed):
        stated[row] = _stated_areas(one, areas[row])
    for one in listed:
        for box in _frames_of(one, "bboxes", video.num_frames):
            one.check_box(box)
    tracks = Tracks(
        masks=masks,
        areas=areas,
        boxes_xyxy=boxes_xyxy,
        mean_areas=mean_areas(stated),
        category_ids=_categories(listed, category_numbers, any_category=False),
        scores=np.zeros(len(masks)),
        is_crowd=np.array([one.flag("iscrowd") for one in listed], dtype=bool),
    )
    return tracks, stated


def predicted_tracks(video: Video, category_numbers: dict[Id, int], *, any_category: bool) -> Tracks:
    """Read the predictions of a video.

    Args:
        video: of the result file.
        category_numbers: of the ground truth.
        any_category: whether a category that the ground truth does not have is accepted.
    """
    listed = video.read()
    masks, areas, boxes_xyxy = _masks(listed, video)
    return Tracks(
        masks=masks,
        areas=areas,
        boxes_xyxy=boxes_xyxy,
        mean_areas=mean_areas(areas),
        category_ids=_categories(listed, category_numbers, any_category=any_category),
        scores=np.array([one.number("score") for one in listed], dtype=np.float64),
        is_crowd=np.zeros(len(masks), dtype=bool),
    )


def _num_frames(video: Record) -> int:
    length = video.content.get("length", video.content.get("file_names"))
    length = len(length) if isinstance(length, list) else length
    if type(length) is not int or length < 1:
        raise video.error(f"'length' must be the number of frames, not {shown(length)}")
    return length


def _sort_tracks(
    listed: RecordList, shapes: dict[Id, tuple[tuple[int, int], int]], category_numbers: dict[Id, int]
) -> YtvisFile:
    """Find the tracks of each video, of which size and number of frames are known."""
    numbers = {video_id: number for number, video_id in enumerate(shapes, start=1)}
    tracks = GroupedRecords.by(listed, "video_id", numbers)
    videos = {video_id: Video(*shape, tracks, index) for index, (video_id, shape) in enumerate(shapes.items())}
    return YtvisFile(videos, category_numbers)


def _masks(listed: Sequence[Record], video: Video) -> tuple[list[list[rle.RLE | None]], np.ndarray, np.ndarray]:
    """The masks of every track, None where it is not visible, their areas int64 [N,F] and boxes int64 [N,F,4]."""
    segmentations = [_frames_of(one, "segmentations", video.num_frames, required=True) for one in listed]
    is_visible = np.array([one is not None for frames in segmentations for one in frames], dtype=bool)
    places = np.flatnonzero(is_visible)

    def refuse(index: int, problem: str) -> InputError:
        track, frame = divmod(int(places[index]), video.num_frames)
        return listed[track].error(f"frame {frame}: {problem}")

    visible = [one for frames in segmentations for one in frames if one is not None]
    checked = check_frames(visible, video.size_hw, refuse)
    rles = iter(checked[0])
    masks = [[None if one is None else next(rles) for one in frames] for frames in segmentations]
    areas, boxes_xyxy = (np.zeros((is_visible.size, *values.shape[1:]), dtype=np.int64) for values in checked[1:])
    areas[places], boxes_xyxy[places] = checked[1:]
    shape = len(masks), video.num_frames
    return masks, areas.reshape(shape), boxes_xyxy.reshape(*shape, 4)  # [NF] -> [N,F], [NF,4] -> [N,F,4]


def _frames_of(record: Record, name: str, num_frames: int, *, required: bool = False) -> list[Any]:
    """One value for each frame of the video; None in each if the field is not there and not required."""
    values = record.field(name) if required else record.content.get(name) or [None] * num_frames
    if not isinstance(values, list) or len(values) != num_frames:
        count = f"{len(values)} entries" if isinstance(values, list) else shown(values)
        raise record.error(
            f"'{name}' must have one entry for each of the {num_frames} frames of its video, not {count}"
        )
    return values


def _stated_areas(record: Record, areas: np.ndarray) -> list[float]:
    values = _frames_of(record, "areas", len(areas))
    for value in values:
        if value is not None and not (is_finite(value) and value >= 0):
            raise record.error(f"an area must be null or a number of at least 0, not {shown(value)}")
    if "areas" not in record.content:
        return areas.tolist()
    return [0.0 if value is None else float(value) for value in values]


def mean_areas(areas: np.ndarray) -> np.ndarray:
    """Mean over the frames with pixels, float64 [N] from [N,F]; 0 for a track that has none."""
    return np.array([row[row != 0].mean() if row.any() else 0.0 for row in areas])


def _categories(tracks: Sequence[Record], numbers: dict[Id, int], *, any_category: bool) -> np.ndarray:
    """int64 [N]; an accepted unknown category comes after the others."""
    if any_category:
        found = [one.lookup_or("category_id", numbers, len(numbers) + 1) for one in tracks]
    else:
        found = [one.lookup("category_id", numbers) for one in tracks]
    return np.array(found, dtype=np.int64)
