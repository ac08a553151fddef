"""Frames of panoptic files as they are scored: a PNG of segment ids and the checked list of its segments.

What is the same in the files of images (`coco_panoptic`) and of videos (`vipseg_json`). H, W image pixels · K classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cropformer import InputError
from entitytransfer.readers.label_png import read_pixels
from entitytransfer.readers.panoptic_png import ids_of_colors
from entitytransfer.readers.records import Id, Record, by_id, records, shown
from entitytransfer.segment_map import SegmentMap, Segments

_MAX_ID = 2**24 - 1
_ONE_CLASS = 0


@dataclass(frozen=True)
class PanopticClasses:
    """The categories of a file: id → class 0..K-1, and bool [K]."""

    numbers: dict[Id, int]
    is_thing: np.ndarray


@dataclass(frozen=True)
class PanopticFrame:
    """A frame that has not been read yet; predictions do not say their size."""

    png_path: Path
    segments: Segments
    size_hw: tuple[int, int] | None = None

    def read(self) -> SegmentMap:
        """Decode the PNG.

        Raises:
            InputError: it cannot be read, is not RGB, or has another size than the file says.
        """
        pixels, mode = read_pixels(self.png_path)
        if mode not in {"RGB", "RGBA"}:
            raise InputError(
                f"{self.png_path} has pixels of mode {mode}, not RGB with id = R + 256 G + 65536 B; "
                "give the PNGs of the panoptic format."
            )
        if self.size_hw not in (None, pixels.shape[:2]):
            raise InputError(
                f"{self.png_path} has height and width {pixels.shape[:2]} but its JSON says {self.size_hw}; "
                "put back the original PNG."
            )
        return SegmentMap(ids_of_colors(pixels), self.segments, str(self.png_path))


@dataclass(frozen=True)
class PanopticSet:
    """The frames of every clip by name; an image is a clip of one frame.

    Attributes:
        source: the JSON.
        classes: those of the ground truth.
        clips: image or video id → frame name → frame, in the order of the file.
    """

    source: Path
    classes: PanopticClasses
    clips: dict[Id, dict[str, PanopticFrame]]

    def check_complete(self, truth: "PanopticSet") -> None:
        """Raise `InputError` where these predictions lack something of the ground truth."""
        for clip_id, frames in truth.clips.items():
            if clip_id not in self.clips:
                raise InputError(f"{self.source} has nothing for {shown(clip_id)}; add its predictions.")
            for name in frames:
                if name not in self.clips[clip_id]:
                    raise InputError(f"{self.source} has no frame {shown(name)} of {shown(clip_id)}; add it.")


def read_classes(values: Any, *, source: Path) -> PanopticClasses:
    """Read panoptic categories.

    Raises:
        InputError: there is none, or one does not say whether it is a thing.
    """
    categories = by_id(records(values, source=source, kind="category"))
    if not categories:
        raise InputError(f"{source} has no categories; check that it is the ground truth.")
    for one in categories.values():
        one.field("isthing")
    numbers = {category_id: number for number, category_id in enumerate(categories)}
    return PanopticClasses(numbers, np.array([one.flag("isthing") for one in categories.values()]))


def read_true_segments(entry: Record, classes: PanopticClasses) -> Segments:
    """Read the ``segments_info`` of a frame's ground truth."""
    listed = _listed(entry)
    numbers = [one.lookup("category_id", classes.numbers) for one in listed]
    areas = [one.number("area") for one in listed]
    return _segments(listed, numbers, areas, [one.flag("iscrowd") for one in listed])


def read_predicted_segments(entry: Record, classes: PanopticClasses, *, any_category: bool) -> Segments:
    """Read the ``segments_info`` of a predicted frame.

    Args:
        entry: the frame.
        classes: those of the ground truth.
        any_category: whether a category that the ground truth does not have is accepted, as where all count as one.
    """
    listed = _listed(entry)
    if any_category:
        numbers = [one.lookup_or("category_id", classes.numbers, _ONE_CLASS) for one in listed]
    else:
        numbers = [one.lookup("category_id", classes.numbers) for one in listed]
    return _segments(listed, numbers, [0.0] * len(listed), [False] * len(listed))


def text_field(record: Record, name: str) -> str:
    """A field that must be text and not empty."""
    value = record.field(name)
    if not isinstance(value, str) or not value:
        raise record.error(f"'{name}' must be text, not {shown(value)}")
    return value


def new_clip(record: Record, name: str, *, seen: Iterable[Id], known: Mapping[Id, Any] | None = None) -> Id:
    """The id of an image or video that must be there once, and be in ``known`` unless that is None."""
    clip_id = record.identifier(name)
    if known is not None:
        record.lookup(name, known)
    if clip_id in seen:
        raise record.error(f"'{name}' {shown(clip_id)} was there before")
    return clip_id


def _listed(entry: Record) -> list[Record]:
    kind = f"{entry.kind} {entry.index}, segment"
    return records(entry.field("segments_info"), source=entry.source, kind=kind)


def _segments(
    listed: Sequence[Record], classes: Sequence[int], areas: Sequence[float], is_crowd: Sequence[bool]
) -> Segments:
    ids: dict[int, None] = {}
    for one, area in zip(listed, areas):
        segment_id = one.field("id")
        if type(segment_id) is not int or not 0 < segment_id <= _MAX_ID:
            raise one.error(f"'id' must be a whole number from 1 to {_MAX_ID}, not {shown(segment_id)}")
        if segment_id in ids:
            raise one.error(f"the id {segment_id} is there twice")
        if area < 0:
            raise one.error(f"'area' must be at least 0, not {area:g}")
        ids[segment_id] = None
    return Segments(
        ids=np.array(list(ids), dtype=np.int64),
        classes=np.array(classes, dtype=np.int64),
        areas=np.array(areas, dtype=np.float64),
        is_crowd=np.array(is_crowd, dtype=bool),
    )
