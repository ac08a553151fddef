"""The raw maps of VIPSeg, 16-bit PNGs with a code for each pixel, and the categories that the codes speak of.

A code is 0 where nothing is annotated, else 1 + category id, or that times 100 plus the number of an instance. A
thing that has no number is one segment; stuff of one class is one segment, with or without numbers. H, W image pixels.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cropformer import InputError
from entitytransfer.classes import Classes
from entitytransfer.readers.json_file import read_json
from entitytransfer.readers.label_png import read_labels
from entitytransfer.readers.panoptic_frames import read_classes, text_field
from entitytransfer.readers.records import records

NUM_CLASSES = 124

_STEP = 100  # from one class to the next in the codes that have a number


def read_codes(path: Path) -> np.ndarray:
    """Read a raw map: uint16 [H,W].

    Raises:
        InputError: it cannot be read, its pixels are colours, or it holds a code of no class.
    """
    codes = read_labels(path)
    if codes.max() >= _STEP * (NUM_CLASSES + 1):
        raise InputError(
            f"{path} holds the code {codes.max()}, but codes are below {_STEP * (NUM_CLASSES + 1)}; "
            "put back the original PNG."
        )
    return codes.astype(np.uint16)


def segments_of_codes(codes: np.ndarray, is_thing: Sequence[bool]) -> np.ndarray:
    """Give every pixel of a segment the same code: integers [H,W] to uint16 [H,W], 0 = VOID."""
    return _segment_codes(tuple(is_thing))[codes]


def read_segments(path: Path, is_thing: Sequence[bool]) -> np.ndarray:
    """Read a raw map as `segments_of_codes` gives it. Raises InputError as `read_codes` does."""
    return segments_of_codes(read_codes(path), is_thing)


def category_of_segment(code: int) -> int:
    """Category id of what `segments_of_codes` gives, but VOID."""
    return code - 1 if code <= NUM_CLASSES else code // _STEP - 1


def read_categories(path: Path) -> list[dict[str, Any]]:
    """Read ``panoVIPSeg_categories.json``: id, name, isthing and color of each class, by ascending id.

    Raises:
        InputError: it is not that, or does not list the ids 0 to 123.
    """
    content = read_json(path)
    listed = records(content, source=path, kind="category")
    numbers = read_classes(content, source=path).numbers
    if list(numbers) != list(range(NUM_CLASSES)):
        raise InputError(f"{path} lists {len(numbers)} categories, not those from 0 to {NUM_CLASSES - 1}; download it.")
    for one in listed:
        text_field(one, "name")
        color = one.field("color")
        if not isinstance(color, list) or len(color) != 3 or any(value not in range(256) for value in color):
            raise one.error("'color' must be red, green and blue from 0 to 255")
    return sorted(content, key=lambda category: category["id"])


def classes_of(categories: Sequence[dict[str, Any]]) -> Classes:
    """What labels mean."""
    return Classes(
        names=tuple(category["name"] for category in categories),
        category_ids=tuple(category["id"] for category in categories),
        is_thing=tuple(bool(category["isthing"]) for category in categories),
    )


@cache
def _segment_codes(is_thing: tuple[bool, ...]) -> np.ndarray:
    """The code that stands for the segment of each code."""
    codes = np.arange(_STEP * (NUM_CLASSES + 1))
    category_ids = np.where(codes <= NUM_CLASSES, codes, codes // _STEP) - 1
    merged = np.where(np.array(is_thing)[category_ids], codes, category_ids + 1)
    merged[0] = 0  # VOID, whose class is none
    return merged.astype(np.uint16)
