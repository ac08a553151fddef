"""Panoptic result files in the official formats: COCO panoptic for images, VIPSeg for videos.

PNGs appear one by one, the JSON that lists them when the block ends well: without it a result is not finished.
`readers.coco_panoptic` and `readers.vipseg_json` read them back.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cropformer import InputError
from entitytransfer.evaluators.segment_tables import count_pairs
from entitytransfer.predictions import atomic_path, ensure_writable, write_json, write_png
from entitytransfer.readers.panoptic_png import colors_of_ids
from entitytransfer.segment_map import VOID

_MAX_ID = 2**24 - 1


class PanopticWriter:
    """Context manager for COCO panoptic results.

    Args:
        json_path: the file of the annotations; an older one is removed at the start.
        png_dir: folder of the PNGs; None = the name of the JSON without its suffix.
    """

    def __init__(self, json_path: str | Path, png_dir: str | Path | None = None) -> None:
        self._json_path = Path(json_path)
        self._png_dir = self._json_path.with_suffix("") if png_dir is None else Path(png_dir)
        self._annotations: list[dict[str, Any]] = []

    def __enter__(self) -> "PanopticWriter":
        """Make the folders."""
        _begin(self._json_path, self._png_dir)
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        """Write the JSON, unless there was an error."""
        if exception_type is None:
            write_json(self._json_path, {"annotations": self._annotations})

    def write(self, image_id: int | str, ids: np.ndarray, categories: Mapping[int, int], *, name: str) -> None:
        """Add an image.

        Args:
            image_id: as in the ground truth.
            ids: integers [H,W], 0 = VOID.
            categories: id → category id; ids without pixels are left out.
            name: the PNG's name without suffix.

        Raises:
            InputError: an id has no category or does not fit into a PNG, or the place cannot be written.
        """
        file_name = f"{name}.png"
        segments_info = _describe(ids, categories, self._png_dir / file_name)
        write_png(self._png_dir / file_name, colors_of_ids(ids))
        self._annotations.append({"image_id": image_id, "file_name": file_name, "segments_info": segments_info})


class VipsegWriter:
    """Context manager for a VIPSeg submission: ``pred.json`` and ``pan_pred/VIDEO/FRAME.png`` in one folder.

    Nothing but the current frame is in memory.

    Args:
        folder: made if needed; an older ``pred.json`` is removed at the start.
    """

    def __init__(self, folder: str | Path) -> None:
        self._json_path = Path(folder) / "pred.json"
        self._png_dir = Path(folder) / "pan_pred"
        self._videos: list[int | str] = []

    def __enter__(self) -> "VipsegWriter":
        """Make the folders, and open the JSON under a temporary name."""
        _begin(self._json_path, self._png_dir)
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self._json_path))
            self._file = stack.enter_context(temporary.open("w", encoding="utf-8"))
            self._file.write('{"annotations": [')
            stack.push(self._end_lists)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the JSON its name, or remove it after an error."""
        self._stack.__exit__(*exception)

    def write(self, video_id: int | str, ids: np.ndarray, categories: Mapping[int, int], *, name: str) -> None:
        """Add the next frame of a video; a segment has the same id in all of them, and they come in one go.

        Args:
            video_id: as in the ground truth.
            ids: integers [H,W], 0 = VOID.
            categories: id → category id; ids without pixels are left out.
            name: the frame's name without suffix.

        Raises:
            InputError: an id has no category or does not fit into a PNG, or the place cannot be written.
            ValueError: another video came between the frames of this one.
        """
        folder = self._png_dir / str(video_id)
        if is_new := video_id not in self._videos:
            ensure_writable(folder)
        elif video_id != self._videos[-1]:
            raise ValueError(f"Frames of video {video_id!r} come after those of another.")
        file_name = f"{name}.png"
        segments_info = _describe(ids, categories, folder / file_name)
        write_png(folder / file_name, colors_of_ids(ids))
        names = {"video_id": video_id, "image_name": f"{name}.jpg", "file_name": file_name}
        frame = json.dumps(names | {"segments_info": segments_info})
        self._file.write((self._head(video_id) if is_new else ", ") + frame)

    def _head(self, video_id: int | str) -> str:
        """What goes before the first frame of a video."""
        before = "]}, " if self._videos else ""
        self._videos.append(video_id)
        return f'{before}{{"video_id": {json.dumps(video_id)}, "annotations": ['

    def _end_lists(self, exception_type: type[BaseException] | None, *_: object) -> None:
        if exception_type is None:
            self._file.write("]}]}" if self._videos else "]}")


def _begin(json_path: Path, png_dir: Path) -> None:
    ensure_writable(json_path.parent)
    ensure_writable(png_dir)
    json_path.unlink(missing_ok=True)


def _describe(ids: np.ndarray, categories: Mapping[int, int], path: Path) -> list[dict[str, Any]]:
    """The ``segments_info`` of a map."""
    visible, _, areas = count_pairs(ids, ids)
    if visible.size and not 0 <= visible[0] <= visible[-1] <= _MAX_ID:
        raise InputError(f"{path} cannot hold the ids {visible[0]} to {visible[-1]}; use 0 to {_MAX_ID}.")
    boxes = ndimage.find_objects(np.searchsorted(visible, ids) + 1)
    segments_info = []
    for segment_id, area, (rows, columns) in zip(visible.tolist(), areas.tolist(), boxes):
        if segment_id == VOID:
            continue
        if segment_id not in categories:
            raise InputError(f"{path} would have the segment {segment_id} without a category; give it one.")
        box_xywh = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
        segment = {"id": segment_id, "category_id": int(categories[segment_id]), "area": area}
        segments_info.append(segment | {"bbox": box_xywh, "iscrowd": 0})
    return segments_info
