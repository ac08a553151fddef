"""Maps of segments: their ids, near the colours of their categories, and their files."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cropformer import InputError
from entitytransfer.predictions import write_png
from entitytransfer.readers.label_png import read_pixels

_NEXT_ID = 3 + 5 * 2**8 + 7 * 2**16  # odd, so that its multiples modulo 2^24 are all ids; a little of each colour


def ids_near_colors(
    category_ids: Iterable[int], *, colors: Mapping[int, Sequence[int]], things: Collection[int]
) -> list[int]:
    """A panoptic id for each segment: the colour of its category or, where that is taken, one near it.

    Args:
        category_ids: of the segments; of one that is no thing all segments get the same id.
        colors: category id → red, green and blue.
        things: ids of the categories that are countable.
    """
    own = {category_id: int(np.dot(color, (1, 2**8, 2**16))) for category_id, color in colors.items()}
    taken, ids = {0, *(own[category_id] for category_id in colors if category_id not in things)}, []
    for category_id in category_ids:
        segment_id = own[category_id]
        while category_id in things and segment_id in taken:
            segment_id = (segment_id + _NEXT_ID) % 2**24
        taken.add(segment_id)
        ids.append(segment_id)
    return ids


def write_map(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG, unless an interrupted run has done so: reading one is quicker."""
    try:
        if path.is_file() and np.array_equal(read_pixels(path)[0], pixels):
            return
    except InputError:
        pass  # damaged
    write_png(path, pixels)
