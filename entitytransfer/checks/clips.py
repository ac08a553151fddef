"""Checks of clips in the format of YouTube-VIS: their frames on disk, and their tracks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cropformer import InputError
from entitytransfer.checks.images import (
    DOWNLOAD_AGAIN,
    ListedImage,
    Photos,
    check_images,
    check_published,
    count,
    examples,
    in_parallel,
)
from entitytransfer.checks.instances import check_categories
from entitytransfer.doctor import Finding
from entitytransfer.readers.records import Id, by_id, records
from entitytransfer.readers.track_index import frame_names
from entitytransfer.readers.ytvis_json import Tracks, YtvisFile, annotated_tracks, index_ytvis, scan_ytvis

_UNPACK = "Unpack the archive once more, or extract the frames again: it stopped half-way."


@dataclass(frozen=True)
class ListedVideo:
    """A video as the file lists it: its frames, and their size in pixels."""

    video_id: Id
    frames: tuple[Path, ...]
    size_hw: tuple[int, int]


def check_clips(
    path: Path,
    folder: Path,
    photos: Photos,
    *,
    name: str,
    download: str,
    classes: int | None = None,
    videos: int | None = None,
    may_lack_annotations: bool = False,
) -> Iterator[Finding]:
    """Everything about one annotation file and the frames that it lists; the last finding counts them.

    Args:
        path: the JSON file.
        folder: what the names of its frames are relative to.
        photos: sizes of the image files.
        name: what the file is, for the counts.
        download: what to do about missing videos.
        classes: number of categories that the file should have; None if any will do.
        videos: number of videos that the published file lists; None if any will do.
        may_lack_annotations: whether a server keeps them.
    """
    try:
        content = scan_ytvis(path, may_lack_annotations=may_lack_annotations)
        file = index_ytvis(content, path)
        listed = list(_listed(content, file, folder, path))
    except InputError as error:
        yield Finding("broken", str(error), path, DOWNLOAD_AGAIN)
        return
    if videos is not None:
        yield from check_published(len(listed), videos, "video", name=path.name, where=path)
    yield from check_frames(listed, photos, source=path, folder=folder, download=download)
    found = in_parallel(lambda video: _read(file, video.video_id), listed, name="videos")
    tracks = [one for one in found if isinstance(one, Tracks)]
    yield from _check_tracks(file, found, source=path, may_lack=may_lack_annotations)
    numbers = list(file.category_numbers)
    used = [numbers[number - 1] for one in tracks for number in one.category_ids.tolist()]
    yield from check_categories(content, used, source=path, classes=classes)
    yield count_tracks(listed, [one.areas for one in tracks], used, source=path, name=name)


def _listed(content: Mapping, file: YtvisFile, folder: Path, path: Path) -> Iterator[ListedVideo]:
    for video_id, video in by_id(records(content["videos"], source=path, kind="video")).items():
        names = frame_names(video, file.videos[video_id].num_frames)
        yield ListedVideo(video_id, tuple(folder / name for name in names), file.videos[video_id].size_hw)


def check_frames(
    listed: Sequence[ListedVideo], photos: Photos, *, source: Path, folder: Path, download: str
) -> Iterator[Finding]:
    """Videos without a frame, videos that lack some, and what is wrong with the frames that are there.

    Args:
        listed: the videos, each of one frame at least.
        photos: sizes of the image files.
        source: the file that lists them.
        folder: where the frames are.
        download: what to do about missing videos.
    """
    sizes = photos.sizes_hw(frame for video in listed for frame in video.frames)
    there = {frame for frame, size in sizes.items() if not isinstance(size, FileNotFoundError)}
    absent = [video for video in listed if there.isdisjoint(video.frames)]
    if absent:
        names = examples(video.frames[0].parent for video in absent)
        what = f"{count(len(absent), 'video')} of {len(listed):,} in {source.name} without frames: {names}"
        yield Finding("missing", what, folder, download)
    partly = [video for video in listed if video not in absent and not there.issuperset(video.frames)]
    if partly:
        names, lacking = examples(v.frames[0].parent for v in partly), sum(len(set(v.frames) - there) for v in partly)
        what = f"{count(lacking, 'frame')} missing in {count(len(partly), 'video')} of {len(listed):,}: {names}"
        yield Finding("missing", what, folder, _UNPACK)
    images = [ListedImage(v.video_id, frame, v.size_hw) for v in listed for frame in v.frames if frame in there]
    yield from check_images(images, photos, source=source, download=download)


def _read(file: YtvisFile, video_id: Id) -> Tracks | InputError:
    """The tracks of a video, or what is wrong with them."""
    try:
        return annotated_tracks(file.videos[video_id], file.category_numbers)
    except InputError as error:
        return error


def _check_tracks(
    file: YtvisFile, found: Sequence[Tracks | InputError], *, source: Path, may_lack: bool
) -> Iterator[Finding]:
    broken = [one for one in found if isinstance(one, InputError)]
    if broken:
        what = f"{count(len(broken), 'video')} with unsound annotations; {broken[0]}"
        yield Finding("broken", what, source, DOWNLOAD_AGAIN)
    if not any(len(video) for video in file.videos.values()):
        what = f"{source.name} has no annotations"
        server = "Results are scored by the server of the benchmark; write and upload them."
        yield Finding("note", what, source, server) if may_lack else Finding("broken", what, source, DOWNLOAD_AGAIN)
        return
    tracks = [one for one in found if isinstance(one, Tracks)]
    crowds = sum(int(one.is_crowd.sum()) for one in tracks)
    if crowds:
        yield Finding("note", count(crowds, "crowd track"), source, "Training leaves them out.")
    empty = sum(not len(one) for one in tracks)
    if empty:
        yield Finding("note", f"{count(empty, 'video')} without tracks", source, "Training leaves them out.")
    unseen = sum(int((one.areas.sum(axis=1) == 0).sum()) for one in tracks)
    if unseen:
        yield Finding("note", f"{count(unseen, 'track')} without a pixel in any frame", source, "Nothing finds them.")


def count_tracks(
    listed: Sequence[ListedVideo], areas: Sequence[np.ndarray], used: Sequence[Id], *, source: Path, name: str
) -> Finding:
    """How much there is.

    Args:
        listed: the videos.
        areas: of each video [N,F], above 0 where a track is seen.
        used: the category of every track.
        source: the file that lists them.
        name: what it is.
    """
    if not listed:
        return Finding("broken", f"{name}: no video", source, DOWNLOAD_AGAIN)
    numbers = [len(one) for one in areas] or [0]
    frames = sum(len(video.frames) for video in listed)
    masks = sum(int((one > 0).sum()) for one in areas)
    shown = f"{sum(numbers):,} tracks ({sum(numbers) / len(listed):.1f} in a video, at most {max(numbers)})"
    videos = f"{count(len(listed), 'video')}, {frames:,} frames"
    return Finding("ok", f"{name}: {videos}, {shown}, {masks:,} masks, categories: {len(set(used))}", source)
