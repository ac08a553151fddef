"""Many RLEs of unknown origin at once: checked before any decoder sees them, and measured in the same pass.

pycocotools reads and writes out of bounds on malformed counts, and both COCO libraries stop early, without a word,
where empty runs of two masks meet. N masks · R runs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from cropformer import InputError, rle
from entitytransfer.readers.json_file import paused_collector
from entitytransfer.readers.records import shown

_BATCH_CHARACTERS = 2**17  # of temporaries that stay in the processor's cache
_MAX_CHARACTERS_PER_RUN = 6  # 6 * 5 bits, one of them the sign, hold every run of `records.MAX_PIXELS` pixels
_NOT_TEXT = "the counts of its RLE are not compressed COCO text"
_NOT_THE_SIZE = "the runs of its RLE do not add up to its size"

Refuse = Callable[[int, str], InputError]


@paused_collector()
def check_rles(
    segmentations: Sequence[Any], sizes_hw: Sequence[tuple[int, int]], refuse: Refuse
) -> tuple[list[rle.RLE], np.ndarray]:
    """Check compressed and uncompressed RLEs as they stand in JSON.

    Args:
        segmentations: N values, hopefully RLEs.
        sizes_hw: the size that each must have, itself already checked.
        refuse: makes the error from the index of a segmentation and its problem.

    Returns:
        The RLEs, compressed and without empty runs inside, and their areas in pixels, int64 [N].

    Raises:
        InputError: what ``refuse`` makes of the first bad segmentation of a batch.
    """
    texts = []
    for index, (segmentation, size_hw) in enumerate(zip(segmentations, sizes_hw)):
        problem = _problem(segmentation, size_hw)
        if problem is not None:
            raise refuse(index, problem)
        counts = segmentation["counts"]
        texts.append(counts if isinstance(counts, str) else _compress(counts, size_hw))
    pixels = np.array([height * width for height, width in sizes_hw], dtype=np.int64)
    areas = np.zeros(len(texts), dtype=np.int64)
    has_empty_runs = np.zeros(len(texts), dtype=bool)
    for start, stop in _batches(texts):
        batch = slice(start, stop)
        try:
            areas[batch], has_empty_runs[batch] = _measure(texts[batch], pixels[batch])
        except _BadRLE as error:
            raise refuse(start + error.index, error.problem) from None
    checked = [{"size": list(size_hw), "counts": text} for text, size_hw in zip(texts, sizes_hw)]
    for index in np.flatnonzero(has_empty_runs):
        checked[index] = rle.encode(rle.decode(checked[index]))
    return checked, areas


class _BadRLE(Exception):
    def __init__(self, index: int, problem: str) -> None:
        super().__init__(problem)
        self.index, self.problem = index, problem


def _problem(segmentation: Any, size_hw: tuple[int, int]) -> str | None:
    """What is wrong with one segmentation, apart from the runs in its text."""
    if not isinstance(segmentation, dict) or "size" not in segmentation or "counts" not in segmentation:
        return f"its segmentation must be an RLE with size and counts, not {shown(segmentation)}"
    size, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(size, list) or (*size,) != size_hw:
        return f"its RLE has the size {shown(size)}, but its image or video {list(size_hw)}"
    if isinstance(counts, str):
        return None if counts and counts.isascii() else _NOT_TEXT
    if isinstance(counts, list):
        return _problem_of_runs(counts, size_hw[0] * size_hw[1])
    return f"the counts of its RLE must be text or a list of runs, not {shown(counts)}"


def _problem_of_runs(counts: list, pixels: int) -> str | None:
    try:
        runs = np.asarray(counts)
    except ValueError:
        return _NOT_THE_SIZE
    is_whole = runs.ndim == 1 and runs.dtype.kind in "iu" and runs.size > 0
    if not is_whole or runs.min() < 0 or runs.max() > pixels or runs.sum() != pixels:
        return _NOT_THE_SIZE
    return None


def _compress(counts: list[int], size_hw: tuple[int, int]) -> str:
    return coco_mask.frPyObjects({"size": list(size_hw), "counts": counts}, *size_hw)["counts"].decode("ascii")


def _batches(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Ranges of texts that together have about so many characters."""
    ends = np.cumsum([len(text) for text in texts])
    bounds = np.flatnonzero(np.diff(ends // _BATCH_CHARACTERS, prepend=-1, append=-1)) if len(texts) else []
    return list(zip(bounds[:-1], bounds[1:]))


def _measure(texts: Sequence[str], pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas [N] of the masks, and whether each has an empty run after its first one.

    Format: ``rleFrString`` of the COCO API, as in `cropformer.rle.runs`, here for all texts in one pass.
    """
    numbers, starts = _unpack("".join(texts), np.array([len(text) for text in texts]))
    counts = np.diff(starts, append=len(numbers))
    runs, rows = _runs(numbers, starts, counts)
    sums = np.add.reduceat(runs, rows, axis=1)  # [2,N]
    is_bad = sums.sum(axis=0) != pixels
    if runs.min() < 0:
        is_bad |= np.minimum.reduceat(runs.min(axis=0), rows) < 0
    if is_bad.any():
        raise _BadRLE(int(is_bad.argmax()), _NOT_THE_SIZE)
    allowed = 1 + (counts % 2 == 0) + (numbers[starts] == 0)  # fillers, and a first run of nothing
    has_empty_runs = np.zeros(len(texts), dtype=bool)
    if runs.size - np.count_nonzero(runs) != allowed.sum():
        has_empty_runs = np.add.reduceat(runs == 0, rows, axis=1, dtype=np.int64).sum(axis=0) > allowed
    return sums[0], has_empty_runs


def _runs(numbers: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The runs of all masks as pairs, an inside and an outside run, int64 [2,P], and the first pair of each mask, [N].

    The first pair holds the first run, which is outside. In the pairs after it each number is the difference to the
    pair before. A filler of 0 completes the first pair, and the last one if it needs it.
    """
    num_pairs = 1 + counts // 2
    first = np.cumsum(num_pairs) - num_pairs
    last = (first + num_pairs - 1)[counts % 2 == 0]
    is_number = np.ones((int(num_pairs.sum()), 2), dtype=bool)
    is_number[first, 0] = is_number[last, 1] = False
    changes = np.zeros(is_number.shape, dtype=np.int64)
    changes[is_number] = numbers
    changes[first] = 0
    totals = np.add.reduceat(changes.T, first, axis=1)  # [2,N]
    changes[first[1:]] = -totals.T[:-1]  # every mask starts at 0 again
    runs = np.cumsum(changes.T, axis=1)  # [2,P]
    runs[1, first] = numbers[starts]
    runs[1, last] = 0
    return runs, first


def _unpack(text: str, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of all masks, int64 [R], and where each mask starts in them, [N].

    Most numbers are one character, so that only the others are put together.
    """
    groups = np.frombuffer(text.encode("ascii"), dtype=np.uint8) - np.uint8(48)  # below "0" it wraps to above 63
    ends = np.cumsum(lengths)
    goes_on = np.flatnonzero(groups & 0x20)  # with bit 5 the number has another group, a higher one
    owners = goes_on - np.arange(goes_on.size)
    places = np.arange(goes_on.size) - np.searchsorted(owners, owners)
    is_bad = (groups[ends - 1] & 0x20) != 0
    if groups.max() > 63 or places.max(initial=0) > _MAX_CHARACTERS_PER_RUN - 2:
        wrong = np.concatenate([np.flatnonzero(groups > 63), goes_on[places > _MAX_CHARACTERS_PER_RUN - 2]])
        is_bad[np.searchsorted(ends, wrong, side="right")] = True
    if is_bad.any():
        raise _BadRLE(int(is_bad.argmax()), _NOT_TEXT)
    highest = groups[(groups & 0x20) == 0]
    numbers = (highest ^ 0x10).astype(np.int64) - 0x10  # bit 4 is the sign
    longer, lower_groups = np.unique(owners, return_counts=True)
    numbers[longer] <<= 5 * lower_groups
    np.add.at(numbers, owners, (groups[goes_on] & 0x1F).astype(np.int64) << (5 * places))
    begins = ends - lengths
    return numbers, begins - np.searchsorted(goes_on, begins)
