"""The files of a segmented clip, at constant memory: overlay video, id images, YouTube-VIS and VIPSeg results."""

import shutil
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import numpy as np

from cropformer import InputError
from entitytransfer.clip_heads import ClipHead
from entitytransfer.predictions import ensure_writable, write_png
from entitytransfer.streaming.track_store import TrackStore
from entitytransfer.tracklets import FrameResult
from entitytransfer.writers.formats import CLIP_OUTPUTS
from entitytransfer.writers.panoptic import VipsegWriter
from entitytransfer.writers.video import VideoWriter
from entitytransfer.writers.ytvis import YtvisWriter

VIDEO_ID = 1
_MAX_PNG_ID = 65_535


class ClipWriter:
    """Context manager; everything appears when the block ends well, nothing when it fails.

    Formats: ``overlay`` is ``<stem>_overlay.mp4``, one colour per track; ``ids`` is ``<stem>_ids/<frame:06d>.png``,
    16-bit grey, value = track id, 0 = none. They are written frame by frame. Whole tracks with their final labels and
    scores follow at the end: ``ytvis`` is ``<stem>_ytvis.json``, the results format of YouTube-VIS, with the video 1;
    ``vipseg`` is the folder ``<stem>_vipseg`` with a submission to VIPSeg, id = track id, with the video ``<stem>``.

    Args:
        store: where the same frames are kept; unfinished files lie beside it.
        out_dir: folder for the files, made if needed.
        stem: how their names begin.
        formats: any of `CLIP_OUTPUTS`; ``vipseg`` for a panoptic head only.
        head: what judges the tracks.
        fps: frames per second of the results, see ``SegmentedClip.fps``.
        size_hw: height and width of the frames.
        sound: the clip itself, whose sound the overlay gets; None = silence.

    Raises:
        InputError: a place that cannot be written, a full disk, or more than 65,535 tracks in id images.
    """

    def __init__(
        self,
        store: TrackStore,
        out_dir: str | Path,
        stem: str,
        *,
        formats: Collection[str],
        head: ClipHead,
        fps: float,
        size_hw: tuple[int, int],
        sound: Path | None = None,
    ) -> None:
        self._store = store
        self._head = head
        self._stem = stem
        self._out_dir = Path(out_dir)
        self._unfinished = store.path.with_suffix(".outputs")
        endings = {name: ending for name, (ending,) in CLIP_OUTPUTS.items() if name in formats}
        paths = {name: self._unfinished / f"{stem}{ending}" for name, ending in endings.items()}
        streams: dict[str, Callable[[Path], _FrameOutput]] = {
            "overlay": lambda path: _Overlay(path, fps=fps, size_hw=size_hw, sound=sound),
            "ids": _IdImages,
        }
        tracks = {"ytvis": self._write_ytvis, "vipseg": self._write_vipseg}
        self._frame_outputs = [streams[name](path) for name, path in paths.items() if name in streams]
        self._track_outputs = [(tracks[name], path) for name, path in paths.items() if name in tracks]
        self._paths = list(paths.values())

    def __enter__(self) -> "ClipWriter":
        """Open what is written frame by frame."""
        ensure_writable(self._out_dir)
        shutil.rmtree(self._unfinished, ignore_errors=True)  # of a run that was killed
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self._unfinished, ignore_errors=True)
            self._unfinished.mkdir(parents=True)
            stack.push(self._finish)
            for output in self._frame_outputs:
                stack.enter_context(output)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Write the tracks and put everything in its place, or remove it after an error."""
        self._stack.__exit__(*exception)

    def write(self, result: FrameResult) -> None:
        """Take the next frame, with its picture if there is an overlay."""
        for output in self._frame_outputs:
            output.write(result)

    def _finish(self, exception_type: type[BaseException] | None, *_: object) -> None:
        if exception_type is not None:
            return
        for write, path in self._track_outputs:
            write(path)
        for path in self._paths:
            target = self._out_dir / path.name
            if target.is_dir() or path.is_dir() and target.exists():
                target.rename(self._unfinished / f"old{target.name}")  # a folder is replaced by moving it away
            path.replace(target)

    def _write_ytvis(self, path: Path) -> None:
        categories = self._head.classes.category_ids
        with YtvisWriter(path) as writer:
            for track in self._store.tracks(self._head):
                category_id = categories[track.label]
                writer.write(VIDEO_ID, category_id=category_id, score=track.score, segmentations=track.rles)

    def _write_vipseg(self, path: Path) -> None:
        category_ids = self._head.classes.category_ids
        categories = {track.track_id: category_ids[track.label] for track in self._store.tracks(self._head)}
        with VipsegWriter(path) as writer:
            for frame in self._store.frames():
                writer.write(self._stem, _track_map(frame), categories, name=f"{frame.index:06d}")


class _FrameOutput(Protocol):
    """What is written frame by frame."""

    def __enter__(self) -> object: ...

    def __exit__(self, *exception: object) -> None: ...

    def write(self, result: FrameResult) -> None:
        """Take the next frame."""


class _Overlay:
    """The clip with its tracks tinted."""

    def __init__(self, path: Path, *, fps: float, size_hw: tuple[int, int], sound: Path | None) -> None:
        self._video = VideoWriter(path, fps=fps, size_hw=size_hw, sound=sound)

    def __enter__(self) -> None:
        self._video.__enter__()

    def __exit__(self, *exception: object) -> None:
        self._video.__exit__(*exception)

    def write(self, result: FrameResult) -> None:
        picture = result.entities.draw(result.image, color_ids=result.track_ids)
        self._video.write(picture, time_s=result.time_s)


class _IdImages:
    """A folder of id images."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._path.mkdir()

    def __exit__(self, *exception: object) -> None:
        """Every image is whole already."""

    def write(self, result: FrameResult) -> None:
        if result.track_ids.max(initial=0) > _MAX_PNG_ID:
            raise InputError(
                f"Frame {result.index} of {self._path.name} needs an id above {_MAX_PNG_ID}, the most that a "
                "16-bit image holds; leave out the format ids, or segment the clip in parts."
            )
        write_png(self._path / f"{result.index:06d}.png", _track_map(result).astype(np.uint16))


def _track_map(result: FrameResult) -> np.ndarray:
    """The track id of every pixel, int64 [H,W], 0 = none; where entities overlap the higher score wins."""
    return np.concatenate([[0], result.track_ids])[result.entities.id_map()]
