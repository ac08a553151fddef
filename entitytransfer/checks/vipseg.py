"""Checks of VIPSeg: of its raw files, and of those that are made of them. N tracks · F frames."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from cropformer import InputError
from entitytransfer.checks.clips import ListedVideo, check_frames, count_tracks
from entitytransfer.checks.images import DOWNLOAD_AGAIN, Photos, check_published, in_parallel
from entitytransfer.checks.instances import check_categories
from entitytransfer.checks.maps import ListedMap, compare_ids, report_maps
from entitytransfer.clip_sample import ClipSample
from entitytransfer.doctor import Finding
from entitytransfer.readers.vipseg_clips import read_prepared
from entitytransfer.readers.vipseg_codes import NUM_CLASSES, category_of_segment, read_categories, read_segments
from entitytransfer.readers.vipseg_files import ANNOTATED, GET, PUBLISHED_VIDEOS, RawVideo, VipsegFiles

_Size = tuple[int, int]


def check_raw(files: VipsegFiles, split: str, photos: Photos) -> Iterator[Finding]:
    """Everything about the raw files of a split, whose list is there; the last finding counts them."""
    source = files.list_file(split)
    try:
        videos, categories = files.videos(split), read_categories(files.categories)
    except InputError as error:
        yield Finding("broken", str(error), source, GET)
        return
    published, is_thing = PUBLISHED_VIDEOS[split], tuple(bool(category["isthing"]) for category in categories)
    yield from check_published(len(videos), published, "video", name=source.name, where=source)
    whole = [_whole(video, with_maps=split in ANNOTATED) for video in videos]
    listed = [_with_size(files, video, photos) for video in whole]
    yield from check_frames(listed, photos, source=source, folder=files.home / "imgs", download=GET)
    maps = [(path, one.size_hw) for video, one in zip(whole, listed) for path in files.maps_of(video)]
    found = in_parallel(partial(_codes, is_thing=is_thing), maps, name="maps")
    yield from report_maps([path for path, _ in maps], found, source=source)
    yield count_tracks(listed, *_seen(whole, found), source=source, name=f"VIPSeg {split}")


def check_prepared(files: VipsegFiles, split: str, photos: Photos) -> Iterator[Finding]:
    """Everything about the prepared file of a split, its frames and its maps; the last finding counts them."""
    path = files.json(split)
    try:
        clips = read_prepared(files, split, by_class=True)
    except InputError as error:
        yield Finding("broken", str(error), path, DOWNLOAD_AGAIN)
        return
    yield from check_published(len(clips), PUBLISHED_VIDEOS[split], "video", name=path.name, where=path)
    used, listed_ids = clips.segments.category_ids.tolist(), clips.segments.listed_categories.tolist()
    content = {"categories": [{"id": category_id} for category_id in listed_ids]}
    yield from check_categories(content, used, source=path, classes=NUM_CLASSES)
    listed = [ListedVideo(clip.clip_id, clip.frame_paths, clip.size_hw) for clip in clips]
    yield from check_frames(listed, photos, source=path, folder=files.prepared_images, download=GET)
    maps = [one for clip in clips for one in _maps(clip)]
    found = in_parallel(partial(compare_ids, may_hide=False), maps, name="maps")
    yield from report_maps([one.path for one in maps], found, source=path)
    areas = [clip.annotation.table.areas.T for clip in clips]  # [F,N] -> [N,F]
    yield count_tracks(listed, areas, used, source=path, name=f"VIPSeg {split}, prepared")


def _whole(video: RawVideo, *, with_maps: bool) -> RawVideo:
    """All frames and maps that there should be; of a video of which there is nothing, one frame, whatever its name."""
    stems = tuple(sorted({*video.images, *video.maps}))
    return RawVideo(video.name, stems or ("*",), stems if with_maps else ())


def _with_size(files: VipsegFiles, video: RawVideo, photos: Photos) -> ListedVideo:
    """A video in the size of its first readable frame."""
    frames = files.images_of(video)
    known = (size for size in photos.sizes_hw(frames).values() if isinstance(size, tuple))
    return ListedVideo(video.name, frames, next(known, (0, 0)))


def _codes(item: tuple[Path, _Size], *, is_thing: Sequence[bool]) -> tuple[int, ...] | Exception:
    """The segments that a raw map shows, or what is wrong with it; without a frame its size is not known."""
    path, size_hw = item
    if not path.is_file():
        return FileNotFoundError(path)
    try:
        segments = read_segments(path, is_thing)
    except InputError as error:
        return error
    if any(size_hw) and segments.shape != size_hw:
        return InputError(f"{path.name} has height and width {segments.shape} but its clip {size_hw}.")
    present = np.flatnonzero(np.bincount(segments.reshape(-1)))  # [H,W] -> [HW]
    return tuple(present[present > 0].tolist())


def _seen(
    videos: Sequence[RawVideo], found: Sequence[tuple[int, ...] | Exception]
) -> tuple[list[np.ndarray], list[int]]:
    """In which maps the tracks of each video are, bool [N,F], and the category of every track."""
    rest, areas, used = iter(found), [], []
    for video in videos:
        frames = [shown for shown in islice(rest, len(video.maps)) if isinstance(shown, tuple)]
        tracks = list(dict.fromkeys(code for shown in frames for code in shown))
        areas.append(np.array([[code in shown for shown in frames] for code in tracks], dtype=bool))
        used += map(category_of_segment, tracks)
    return areas, used


def _maps(clip: ClipSample) -> Iterator[ListedMap]:
    table = clip.annotation.table
    for path, areas in zip(clip.annotation.map_paths, table.areas, strict=True):
        yield ListedMap(path, clip.size_hw, tuple(table.ids[areas > 0].tolist()))
