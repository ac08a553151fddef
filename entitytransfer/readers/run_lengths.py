"""Many RLEs of unknown origin at once: checked before any decoder sees them, and measured in the same pass.

pycocotools reads and writes out of bounds on malformed counts, and both COCO libraries stop early, without a word,
where empty runs of two masks meet. N masks · R runs · P pairs of an outside and an inside run.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from cropformer import InputError, rle
from entitytransfer.readers.json_file import paused_collector
from entitytransfer.readers.records import MAX_PIXELS, shown

_BATCH_CHARACTERS = 2**17  # of temporaries that stay in the processor's cache
_MAX_CHARACTERS_PER_RUN = 6  # 6 * 5 bits, one of them the sign, hold every run of `records.MAX_PIXELS` pixels
_GOES_ON = 0x20  # with this bit a number has another group, a higher one
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
    areas, has_empty_runs = np.zeros(len(segmentations), dtype=np.int64), np.zeros(len(segmentations), dtype=bool)
    rles = _as_text(segmentations, sizes_hw, refuse)
    pixels = np.array([height * width for height, width in sizes_hw], dtype=np.int64)
    for batch, runs in _batches_of_runs(rles, pixels, refuse):
        areas[batch], has_empty_runs[batch] = runs.areas(), runs.has_empty_ones()
    return _without_empty_runs(rles, has_empty_runs), areas


@paused_collector()
def check_frames(
    segmentations: Sequence[Any], size_hw: tuple[int, int], refuse: Refuse
) -> tuple[list[rle.RLE], np.ndarray, np.ndarray]:
    """Check as `check_rles` does RLEs that must all have one size, and measure their boxes too.

    Returns:
        The RLEs, their areas, and int64 [N,4] boxes: left, top, right, bottom, the latter two exclusive; zeros for an
        empty mask.
    """
    areas, has_empty_runs = np.zeros(len(segmentations), dtype=np.int64), np.zeros(len(segmentations), dtype=bool)
    boxes_xyxy = np.zeros((len(segmentations), 4), dtype=np.int64)
    rles = _as_text(segmentations, [size_hw] * len(segmentations), refuse)
    pixels = np.full(len(rles), size_hw[0] * size_hw[1], dtype=np.int64)
    for batch, runs in _batches_of_runs(rles, pixels, refuse):
        areas[batch], has_empty_runs[batch] = runs.areas(), runs.has_empty_ones()
        boxes_xyxy[batch] = runs.boxes_xyxy(size_hw)
    return _without_empty_runs(rles, has_empty_runs), areas, boxes_xyxy


class _BadRLE(Exception):
    def __init__(self, index: int, problem: str) -> None:
        super().__init__(problem)
        self.index, self.problem = index, problem


def _as_text(segmentations: Sequence[Any], sizes_hw: Sequence[tuple[int, int]], refuse: Refuse) -> list[rle.RLE]:
    """The segmentations as compressed RLEs of the right size whose text is not yet looked at."""
    rles = []
    for index, (segmentation, (height, width)) in enumerate(zip(segmentations, sizes_hw)):
        if type(segmentation) is dict and segmentation.get("size") == [height, width]:
            counts = segmentation.get("counts")
            if type(counts) is str and counts and counts.isascii():
                rles.append(segmentation)
                continue
        problem = _problem(segmentation, (height, width))
        if problem is not None:
            raise refuse(index, problem)
        rles.append(_compress(segmentation["counts"], (height, width)))
    return rles


def _problem(segmentation: Any, size_hw: tuple[int, int]) -> str | None:
    """What is wrong with one segmentation, apart from the runs in its text."""
    if not isinstance(segmentation, dict) or "size" not in segmentation or "counts" not in segmentation:
        return f"its segmentation must be an RLE with size and counts, not {shown(segmentation)}"
    size, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(size, list) or (*size,) != size_hw:
        return f"its RLE has the size {shown(size)}, but its image or video {list(size_hw)}"
    if isinstance(counts, str):
        return _NOT_TEXT
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


def _compress(counts: list[int], size_hw: tuple[int, int]) -> rle.RLE:
    encoded = coco_mask.frPyObjects({"size": list(size_hw), "counts": counts}, *size_hw)
    return {"size": list(size_hw), "counts": encoded["counts"].decode("ascii")}


def _without_empty_runs(rles: list[rle.RLE], has_empty_runs: np.ndarray) -> list[rle.RLE]:
    for index in np.flatnonzero(has_empty_runs):
        rles[index] = rle.encode(rle.decode(rles[index]))
    return rles


@dataclass(frozen=True)
class _Runs:
    """The runs of N masks, one after the other.

    Attributes:
        outside: int32 [P].
        inside: int32 [P], the run after each outside one; one of 0 completes the last pair of a mask if it needs it.
        first: int64 [N], the first pair of each mask.
        is_completed: bool [N], whether the last pair is completed.
    """

    outside: np.ndarray
    inside: np.ndarray
    first: np.ndarray
    is_completed: np.ndarray

    def areas(self) -> np.ndarray:
        """Pixels inside of each mask, int64 [N]."""
        return np.add.reduceat(self.inside, self.first, dtype=np.int64)

    def are_of(self, pixels: np.ndarray) -> np.ndarray:
        """bool [N], whether the runs can be those of masks with so many pixels [N]."""
        are_right = self.areas() + np.add.reduceat(self.outside, self.first, dtype=np.int64) == pixels
        for runs in (self.outside, self.inside):
            if runs.min() < 0 or runs.max() > MAX_PIXELS:
                are_right &= np.minimum.reduceat(runs, self.first) >= 0
                are_right &= np.maximum.reduceat(runs, self.first) <= MAX_PIXELS
        return are_right

    def has_empty_ones(self) -> np.ndarray:
        """bool [N], whether a mask has an empty run after its first one."""
        allowed = self.is_completed.astype(np.int64) + (self.outside[self.first] == 0)
        if sum(runs.size - np.count_nonzero(runs) for runs in (self.outside, self.inside)) == allowed.sum():
            return np.zeros(len(allowed), dtype=bool)
        empty = (self.outside == 0).astype(np.int64) + (self.inside == 0)
        return np.add.reduceat(empty, self.first) > allowed

    def boxes_xyxy(self, size_hw: tuple[int, int]) -> np.ndarray:
        """int64 [N,4] of masks that all have this size; zeros for an empty one."""
        height, width = size_hw
        ends = self.outside + self.inside
        ends[self.first[1:]] -= height * width  # so that the places start at 0 in every mask
        np.cumsum(ends, out=ends)
        starts = ends - self.inside
        top = starts - starts // height * height  # takes a third of the time of %
        bottom = top + self.inside
        last = np.append(self.first[1:], ends.size) - 1
        top[last[self.is_completed]], bottom[last[self.is_completed]] = height, 0
        last_inside = np.where(self.is_completed, np.maximum(last - 1, self.first), last)
        left, right = starts[self.first] // height, (ends[last_inside] - 1) // height + 1
        top, bottom = np.minimum.reduceat(top, self.first), np.maximum.reduceat(bottom, self.first)
        goes_on = bottom > height  # a run that goes on in the next column touches the lowest and the highest row
        boxes = np.stack([left, np.where(goes_on, 0, top), right, np.where(goes_on, height, bottom)], axis=1)
        return np.where((bottom > 0)[:, None], boxes, 0)


def _batches_of_runs(rles: Sequence[rle.RLE], pixels: np.ndarray, refuse: Refuse) -> Iterator[tuple[slice, _Runs]]:
    """The checked runs of masks that together have about so many characters."""
    texts = [one["counts"] for one in rles]
    ends = np.cumsum([len(text) for text in texts])
    bounds = np.flatnonzero(np.diff(ends // _BATCH_CHARACTERS, prepend=-1, append=-1))
    for start, stop in zip(bounds[:-1], bounds[1:]):
        batch = slice(start, stop)
        try:
            yield batch, _checked_runs(texts[batch], pixels[batch])
        except _BadRLE as error:
            raise refuse(start + error.index, error.problem) from None


def _checked_runs(texts: Sequence[str], pixels: np.ndarray) -> _Runs:
    runs = _read_runs(texts)
    are_right = runs.are_of(pixels)
    if not are_right.all():
        raise _BadRLE(int(are_right.argmin()), _NOT_THE_SIZE)
    return runs


def _read_runs(texts: Sequence[str]) -> _Runs:
    """Take all texts apart in one pass; whether the runs can be those of a mask is not looked at.

    Format: ``rleFrString`` of the COCO API, as in `cropformer.rle.runs`. After the third one every number is the
    difference to the number two before. Where the runs of a mask are beyond 32 bits, sums wrap around, but those of the
    masks after it are right again.
    """
    numbers, starts, is_completed = _unpack(texts)
    pairs = np.ascontiguousarray(numbers.reshape(-1, 2).T)  # [2P] -> [2,P]
    first = starts // 2
    third = first[np.diff(first, append=pairs.shape[1]) > 1] + 1
    pairs[0, third] -= pairs[0, third - 1]
    totals = np.add.reduceat(pairs, first, axis=1, dtype=np.int32)  # [2,N]
    pairs[:, first[1:]] -= totals[:, :-1]  # every mask starts at 0 again
    np.cumsum(pairs, axis=1, out=pairs)
    last = np.append(first[1:], pairs.shape[1]) - 1
    pairs[1, last[is_completed]] = 0
    return _Runs(*pairs, first, is_completed)


def _unpack(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers of all masks, an even number for each, int32 [2P]; where each mask starts in them, and whether it had
    an odd number of them, [N].

    Most numbers are one character, so that only the others are put together.
    """
    lengths = np.array([len(text) for text in texts])
    ends = np.cumsum(lengths)
    groups = _groups("".join(texts))
    goes_on = np.flatnonzero((groups & _GOES_ON) != 0)
    num_goes_on = np.diff(np.searchsorted(goes_on, ends), prepend=0)  # [N]
    is_odd = (lengths - num_goes_on) % 2 == 1
    fillers_before = np.cumsum(is_odd) - is_odd
    owners = goes_on - np.arange(goes_on.size) + np.repeat(fillers_before, num_goes_on)
    places = _places(owners)
    _check_groups(groups, ends, too_long=goes_on[places > _MAX_CHARACTERS_PER_RUN - 2])
    lower = (groups[goes_on] & 0x1F).astype(np.int32)
    filled = _groups("".join([text + "0" if odd else text for text, odd in zip(texts, is_odd.tolist())]))
    highest = filled[(filled & _GOES_ON) == 0]
    numbers = (highest ^ 0x10).astype(np.int32) - 0x10  # bit 4 is the sign
    for place in range(int(places.max(initial=-1)) + 1):
        some = places == place
        numbers[owners[some]] <<= 5
    for place in range(int(places.max(initial=-1)) + 1):
        some = places == place
        numbers[owners[some]] += lower[some] << 5 * place
    starts = ends - lengths - np.cumsum(num_goes_on) + num_goes_on + fillers_before
    return numbers, starts, is_odd


def _groups(text: str) -> np.ndarray:
    """The six bits of each character, uint8; above 63 if it is none of the alphabet."""
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8) - np.uint8(48)  # below "0" it wraps around


def _places(owners: np.ndarray) -> np.ndarray:
    """How many equal values stand before each one in an ascending array."""
    indices = np.arange(owners.size)
    is_first = np.diff(owners, prepend=-1) != 0
    return indices - np.maximum.accumulate(np.where(is_first, indices, 0))


def _check_groups(groups: np.ndarray, ends: np.ndarray, *, too_long: np.ndarray) -> None:
    """Every text must consist of the alphabet, and its last number must end and no number be too long."""
    is_bad = (groups[ends - 1] & _GOES_ON) != 0
    if too_long.size or groups.max() > 63:
        wrong = np.concatenate([np.flatnonzero(groups > 63), too_long])
        is_bad[np.searchsorted(ends, wrong, side="right")] = True
    if is_bad.any():
        raise _BadRLE(int(is_bad.argmax()), _NOT_TEXT)
