"""Results of YouTube-VIS and UVO for a whole set, track by track; `readers.ytvis_json` reads them back.

F frames.
"""

import io
import json
import math
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from cropformer import InputError, rle
from entitytransfer.predictions import atomic_path
from entitytransfer.readers.zipped_json import RESULTS_NAME


class YtvisWriter:
    """Context manager; the file appears when the block ends well. Nothing but the current mask is in memory.

    Args:
        path: ``*.json``; or ``*.zip``, which then holds ``results.json``, as the servers take it.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._separator = "[\n"

    def __enter__(self) -> "YtvisWriter":
        """Open the file under a temporary name."""
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self._path))
            self._file = stack.enter_context(_opened(temporary))
            stack.push(self._end_list)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the file its name, or remove it after an error."""
        self._stack.__exit__(*exception)

    def write(
        self, video_id: int | str, *, category_id: int | str, score: float, segmentations: Iterable[rle.RLE | None]
    ) -> None:
        """Add a track.

        Args:
            video_id: as in the ground truth.
            category_id: as in the ground truth.
            score: any finite number; higher is surer.
            segmentations: F masks, None where the track is not visible.

        Raises:
            InputError: the score is not finite, or the masks are not of one size.
        """
        if not math.isfinite(score):
            raise InputError(f"A track of video {video_id!r} has the score {score}; give a finite number.")
        track = {"video_id": video_id, "category_id": category_id, "score": float(score)}
        self._file.write(f'{self._separator}{json.dumps(track)[:-1]}, "segmentations": [')
        sizes = set()
        for frame, mask in enumerate(segmentations):
            self._file.write((", " if frame else "") + json.dumps(mask))
            if mask is not None:
                sizes.add(tuple(mask["size"]))
        self._file.write("]}")
        if len(sizes) > 1:
            raise InputError(
                f"A track of video {video_id!r} has masks of different sizes; give them that of the video."
            )
        self._separator = ",\n"

    def _end_list(self, exception_type: type[BaseException] | None, *_: object) -> None:
        if exception_type is None:
            self._file.write("[]\n" if self._separator == "[\n" else "\n]\n")


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """The text file, or the one in the zip."""
    if path.suffix.lower() != ".zip":
        with path.open("w", encoding="ascii") as file:
            yield file
        return
    with (
        zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive,
        archive.open(RESULTS_NAME, "w", force_zip64=True) as raw,
        io.TextIOWrapper(raw, encoding="ascii") as file,
    ):
        yield file
