"""The files of a segmented clip, at constant memory: overlay video, id images, YouTube-VIS results."""

import json
import shutil
import sqlite3
from collections.abc import Collection
from contextlib import ExitStack, closing
from itertools import repeat
from pathlib import Path
from typing import TextIO
from uuid import uuid4

import numpy as np

from cropformer import InputError
from entitytransfer.predictions import atomic_path, ensure_writable, write_png
from entitytransfer.readers.video_writer import VideoWriter
from entitytransfer.tracklets import FrameResult

CLIP_FORMATS = ("overlay", "ids", "ytvis")
_MAX_PNG_ID = 65_535


class ClipWriter:
    """Context manager; everything appears when the block ends well, nothing when it fails.

    Formats: ``overlay`` is ``<stem>_overlay.mp4``, one colour per track; ``ids`` is
    ``<stem>_ids/<frame:06d>.png``, 16-bit grey, value = track id, 0 = none; ``ytvis`` is
    ``<stem>_ytvis.json``, the results format of YouTube-VIS.

    Args:
        out_dir: folder for the files, made if needed.
        stem: how their names begin.
        formats: any of `CLIP_FORMATS`.
        fps: frames per second of the results, see ``SegmentedClip.fps``.
        size_hw: height and width of the frames.
        video_id: the clip's number in the YTVIS results.
        sound: the clip itself, whose sound the overlay gets; None = silence.

    Raises:
        InputError: an unknown format, a place that cannot be written, a full disk, or more than 65,535
            tracks in id images.
    """

    def __init__(
        self,
        out_dir: str | Path,
        stem: str,
        *,
        formats: Collection[str] = CLIP_FORMATS,
        fps: float,
        size_hw: tuple[int, int],
        video_id: int = 1,
        sound: Path | None = None,
    ) -> None:
        unknown = sorted(set(formats) - set(CLIP_FORMATS))
        if unknown:
            raise InputError(f"Clips are not written as {unknown[0]}; choose from {', '.join(CLIP_FORMATS)}.")
        self._out_dir = Path(out_dir)
        outputs = {
            "overlay": _Overlay(self._out_dir / f"{stem}_overlay.mp4", fps=fps, size_hw=size_hw, sound=sound),
            "ids": _IdImages(self._out_dir / f"{stem}_ids"),
            "ytvis": _YtvisResults(self._out_dir / f"{stem}_ytvis.json", size_hw=size_hw, video_id=video_id),
        }
        self._outputs = [outputs[name] for name in CLIP_FORMATS if name in formats]
        self.paths = [output.path for output in self._outputs]

    def __enter__(self) -> "ClipWriter":
        """Open every output under a temporary name."""
        ensure_writable(self._out_dir)
        with ExitStack() as stack:
            for output in self._outputs:
                stack.enter_context(output)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the outputs their names, or remove them after an error."""
        self._stack.__exit__(*exception)

    def write(self, result: FrameResult) -> None:
        """Append the next frame to every output."""
        for output in self._outputs:
            output.write(result)


class _Overlay:
    """The clip with its tracks tinted."""

    def __init__(self, path: Path, *, fps: float, size_hw: tuple[int, int], sound: Path | None) -> None:
        self.path = path
        self._video = VideoWriter(path, fps=fps, size_hw=size_hw, sound=sound)

    def __enter__(self) -> None:
        self._video.__enter__()

    def __exit__(self, *exception: object) -> None:
        self._video.__exit__(*exception)

    def write(self, result: FrameResult) -> None:
        picture = result.entities.draw(result.image, color_ids=result.track_ids)
        self._video.write(picture, time_s=result.time_s)


class _IdImages:
    """A folder of id images, filled under a hidden name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filling = path.with_name(f".{path.name}-{uuid4().hex[:12]}")

    def __enter__(self) -> None:
        self._filling.mkdir()

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        old = self._filling.with_name(f"{self._filling.name}-old")
        try:
            if exception_type is None:
                if self.path.exists():
                    self.path.rename(old)
                self._filling.rename(self.path)
                shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(self._filling, ignore_errors=True)

    def write(self, result: FrameResult) -> None:
        if result.track_ids.max(initial=0) > _MAX_PNG_ID:
            raise InputError(
                f"Frame {result.index} of {self.path} needs an id above {_MAX_PNG_ID}, the most that a "
                "16-bit image holds; leave out the format ids, or segment the clip in parts."
            )
        palette = np.concatenate([[0], result.track_ids]).astype(np.uint16)
        write_png(self._filling / f"{result.index:06d}.png", palette[result.entities.id_map()])


class _YtvisResults:
    """Tracks as YouTube-VIS results: [{video_id, score, category_id, segmentations: [RLE or null]}].

    Masks come frame by frame and leave track by track, so they wait in a temporary database on disk. (Given
    an empty name SQLite keeps it in the temporary folder, where nothing is left even after a crash.)
    """

    def __init__(self, path: Path, *, size_hw: tuple[int, int], video_id: int) -> None:
        self.path = path
        self._size = list(size_hw)
        self._video_id = video_id
        self._frames = 0

    def __enter__(self) -> None:
        # Frames may come from another thread than the end does, though never at the same time.
        self._masks = sqlite3.connect("", check_same_thread=False)
        self._masks.execute("PRAGMA journal_mode = OFF")
        self._masks.execute(
            "CREATE TABLE masks (track INT, frame INT, counts TEXT, score REAL, label INT, "
            "PRIMARY KEY (track, frame)) WITHOUT ROWID"
        )

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        with closing(self._masks):
            if exception_type is None:
                with atomic_path(self.path) as temporary, temporary.open("w", encoding="ascii") as file:
                    self._write_tracks(file)

    def write(self, result: FrameResult) -> None:
        found = result.entities
        counts = [rle["counts"] for rle in found.rles]
        rows = zip(
            result.track_ids.tolist(),
            repeat(self._frames),
            counts,
            found.scores.tolist(),
            found.labels.tolist(),
        )
        try:
            self._masks.executemany("INSERT INTO masks VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.OperationalError as error:
            raise InputError(
                f"Cannot keep the masks of {self.path} in the temporary folder ({error}); "
                "set TMPDIR to a folder on a larger disk."
            ) from error
        self._frames += 1

    def _write_tracks(self, file: TextIO) -> None:
        tracks = self._masks.execute("SELECT track, AVG(score) FROM masks GROUP BY track ORDER BY track")
        separator = "[\n"
        for track, score in tracks:
            head = {"video_id": self._video_id, "score": score, "category_id": 1 + self._label(track)}
            file.write(f'{separator}{json.dumps(head)[:-1]}, "segmentations": [')
            self._write_masks(file, track)
            file.write("]}")
            separator = ",\n"
        file.write("[]\n" if separator == "[\n" else "\n]\n")

    def _label(self, track: int) -> int:
        """The label that most frames of a track have."""
        query = "SELECT label FROM masks WHERE track = ? GROUP BY label ORDER BY COUNT(*) DESC, label"
        return self._masks.execute(query, (track,)).fetchone()[0]

    def _write_masks(self, file: TextIO, track: int) -> None:
        """RLE or null for every frame, one at a time."""
        rows = self._masks.execute("SELECT frame, counts FROM masks WHERE track = ? ORDER BY frame", (track,))
        row = rows.fetchone()
        for frame in range(self._frames):
            file.write(", " if frame else "")
            if row is None or row[0] != frame:
                file.write("null")
                continue
            json.dump({"size": self._size, "counts": row[1]}, file)
            row = rows.fetchone()
