"""COCO run-length encoding of masks and id maps: ``{"size": [H, W], "counts": str}``, column by column.

``counts`` is ASCII text, so an RLE goes into JSON as it is. The byte format is pycocotools' own.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from cropformer.errors import InputError

RLE = dict[str, list[int] | str]

_STRIP_COLUMNS = 64
_MAX_CHARS_PER_RUN = 7  # 7 * 5 bits hold every run of an image below 2**34 pixels


def encode(mask: np.ndarray) -> RLE:
    """Encode one mask, bool (or zero / non-zero) [H,W]."""
    columns = np.asfortranarray(mask, dtype=bool)
    return _as_text(coco_mask.encode(columns.view(np.uint8)))


def from_runs(counts: Sequence[int] | np.ndarray, size_hw: tuple[int, int]) -> RLE:
    """Encode runs as `runs` gives them: outside, inside, outside, ...

    Raises:
        InputError: they are no whole numbers from 0 on, or do not add up to H * W.
    """
    lengths = np.asarray(counts)
    if lengths.dtype.kind not in "iu" or (lengths < 0).any() or lengths.sum() != size_hw[0] * size_hw[1]:
        raise InputError(f"The runs of an RLE do not add up to its size {list(size_hw)}; correct or remove it.")
    return _compress(lengths, *size_hw)


def from_polygons(polygons: Sequence[np.ndarray], size_hw: tuple[int, int]) -> RLE:
    """Encode the union of polygons, each [P,2] points x, y in pixels with P >= 3, filled as pycocotools does."""
    parts = coco_mask.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *size_hw)
    return _as_text(coco_mask.merge(parts))


def encode_id_map(id_map: np.ndarray, ids: Sequence[int] | np.ndarray) -> list[RLE]:
    """Encode the region of every id of an integer map [H,W], in one pass over its pixels.

    The result equals ``[encode(id_map == i) for i in ids]``; an absent id gives an empty mask.
    """
    strips = ((x, id_map[:, x : x + _STRIP_COLUMNS].T) for x in range(0, id_map.shape[1], _STRIP_COLUMNS))
    return encode_strips(strips, id_map.shape, ids)


def encode_strips(
    strips: Iterable[tuple[int, np.ndarray]], size_hw: tuple[int, int], ids: Sequence[int] | np.ndarray
) -> list[RLE]:
    """Encode the region of every id of an integer map that comes in strips of columns.

    Each strip is cut once into runs of equal id; each RLE is then assembled from the runs of its id. No temporary
    is larger than a strip, but for the runs.

    Args:
        strips: first column and values [w,H] of each strip, from left to right; columns in none hold no id.
        size_hw: size of the map.
        ids: what to encode.
    """
    height, width = size_hw
    runs_of_strips = [_runs_of_strip(values, offset=column * height) for column, values in strips]
    nothing = np.zeros(0, dtype=np.int64)
    starts, ends, run_ids = (np.concatenate(parts) for parts in zip([nothing] * 3, *runs_of_strips))
    order = np.argsort(run_ids, kind="stable")  # runs of one id side by side, still from left to right
    first, last = (np.searchsorted(run_ids[order], ids, side) for side in ("left", "right"))
    groups = [order[a:b] for a, b in zip(first, last)]
    return [_compress(_counts(starts[g], ends[g], height * width), height, width) for g in groups]


def _runs_of_strip(values: np.ndarray, *, offset: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts, ends and ids of the runs in values [w,H]; the first pixel is number ``offset`` of the map."""
    flat = np.ascontiguousarray(values).reshape(-1)  # [w,H] -> [wH]
    cuts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], cuts, [flat.size]])
    return edges[:-1] + offset, edges[1:] + offset, flat[edges[:-1]]


def decode(rle: RLE) -> np.ndarray:
    """Mask of an RLE, bool [H,W].

    Raises:
        InputError: the runs are not a mask of the stated size (pycocotools would read out of bounds).
    """
    height, width = rle["size"]
    lengths = runs(rle)
    inside = np.arange(lengths.size) % 2 == 1
    return np.repeat(inside, lengths).reshape(width, height).T  # [W*H] -> [H,W]


def cut(rles: Sequence[RLE], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The pixels of some rows and columns, as ``decode`` would give them, without decoding the rest.

    Every end of a run is replaced by the number of picked pixels before it, which are the runs of the small mask.

    Args:
        rles: N masks of one size.
        rows: which rows, int64 [h], ascending; they may repeat.
        columns: which columns, int64 [w], likewise; descending ones show the masks mirrored.

    Returns:
        bool [N,h,w].

    Raises:
        InputError: as ``decode`` does.
    """
    once, again = np.unique(columns, return_inverse=True)
    masks = np.zeros((len(rles), rows.size, once.size), dtype=bool)
    ascending = masks[:, :, ::-1] if columns[0] > columns[-1] else masks
    if rles:
        height, width = rles[0]["size"]
        columns_before = np.searchsorted(
            once, np.arange(width + 2)
        )  # one more than ends can have, to tell a picked one
        rows_before = np.searchsorted(rows, np.arange(height))
    for mask, encoded in zip(ascending, rles):
        column, row = np.divmod(np.cumsum(runs(encoded)), height)
        before, is_picked = columns_before[column], columns_before[column + 1] > columns_before[column]
        _paint(mask, before * rows.size + is_picked * rows_before[row])
    return masks if once.size == columns.size else ascending[:, :, again]


def _paint(mask: np.ndarray, ends: np.ndarray) -> None:
    """Set the pixels of the inside runs in an empty mask [h,w]; ``ends`` int64 [R] closes its runs, outside first."""
    starts, stops = ends[: ends.size // 2 * 2 : 2], ends[1::2]
    filled = stops > starts
    if not filled.any():
        return
    edges = np.stack([starts[filled], stops[filled]], axis=1).reshape(-1)  # [R,2] -> [2R]
    height = mask.shape[0]
    left, right = edges[0] // height, -(-edges[-1] // height)
    lengths = np.diff(edges, prepend=left * height, append=right * height)
    inside = np.arange(lengths.size) % 2 == 1
    mask[:, left:right] = np.repeat(inside, lengths).reshape(right - left, height).T  # [wh] -> [w,h] -> [h,w]


def decode_id_map(rles: Sequence[RLE], size_hw: tuple[int, int]) -> np.ndarray:
    """int32 [H,W] with the value i + 1 in mask i, 0 elsewhere; where masks overlap the first one is on top.

    Raises InputError as `decode` does.
    """
    height, width = size_hw
    columns = np.zeros(height * width, dtype=np.uint16 if len(rles) < 2**16 else np.int32)
    for i in reversed(range(len(rles))):
        lengths = runs(rles[i])
        body = lengths[1 : lengths.size - lengths.size % 2]  # from the first to the last run inside
        inside = np.arange(body.size) % 2 == 0
        span = columns[lengths[0] : lengths[0] + body.sum()]
        np.copyto(span, i + 1, where=np.repeat(inside, body))
    return np.ascontiguousarray(columns.reshape(width, height).T, dtype=np.int32)  # [W*H] -> [H,W]


def area(rle: RLE) -> int:
    """Number of pixels inside. Raises InputError as `decode` does."""
    return int(runs(rle)[1::2].sum())


def bounding_box_xyxy(rle: RLE) -> np.ndarray:
    """Tight box, float32 [4], right and bottom edges exclusive; zeros for an empty mask.

    Unlike pycocotools' ``toBbox`` it stands runs of length zero, which other writers produce.
    Raises InputError as `decode` does.
    """
    height, _ = rle["size"]
    lengths = runs(rle)
    ends = np.cumsum(lengths)[1::2]
    starts = ends - lengths[1::2]
    filled = ends > starts
    if not filled.any():
        return np.zeros(4, dtype=np.float32)
    (left, top), (right, bottom) = (np.divmod(edge[filled], height) for edge in (starts, ends - 1))
    if (left != right).any():  # a run that goes on into the next column touches the bottom and the top row
        top, bottom = 0, height - 1
    box = [left.min(), np.min(top), right.max() + 1, np.max(bottom) + 1]
    return np.array(box, dtype=np.float32)


def runs(rle: RLE) -> np.ndarray:
    """Run lengths of an RLE, int64: outside, inside, outside, ...; their sum is H * W.

    Format: ``rleFrString`` of the COCO API. A run is written in groups of 5 bits, least significant first;
    from the fourth run on it is the difference to the run two before.

    Raises:
        InputError: the counts are not COCO text, or do not add up to the stated size.
    """
    height, width = rle["size"]
    values = _unpack(rle["counts"])
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    if values.sum() != height * width or (values < 0).any():
        raise InputError(f"The runs of an RLE do not add up to its size {height}x{width}; encode the mask again.")
    return values


def _unpack(counts: str | bytes) -> np.ndarray:
    """Signed integers of the COCO counts text, int64."""
    text = counts.encode() if isinstance(counts, str) else counts
    chars = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((chars & 0x20) == 0)  # bit 5 set: the number goes on in the next character
    first = np.concatenate([[0], last[:-1] + 1]) if last.size else last
    malformed = not last.size or last[-1] != chars.size - 1 or chars.min() < 0 or chars.max() > 63
    if malformed or (last - first).max() >= _MAX_CHARS_PER_RUN:
        raise InputError("The counts of an RLE are not compressed COCO text; encode the mask again.")
    place = np.arange(chars.size) - np.repeat(first, last - first + 1)
    values = np.add.reduceat((chars & 0x1F) << (5 * place), first)
    negative = (chars[last] & 0x10) != 0
    return np.where(negative, values - (1 << (5 * (last - first + 1))), values)


def _counts(starts: np.ndarray, ends: np.ndarray, size: int) -> np.ndarray:
    """Uncompressed COCO counts of the foreground runs ``[starts, ends)`` in ``size`` pixels."""
    apart = starts[1:] != ends[:-1]  # a run that goes on into the next strip is one run
    edges = np.stack([starts[np.r_[True, apart]], ends[np.r_[apart, True]]], axis=1) if starts.size else starts
    edges = edges.reshape(-1)  # [R,2] -> [2R]
    counts = np.diff(edges, prepend=0, append=size)
    return counts if counts[-1] else counts[:-1]  # COCO writes no empty last run


def _compress(counts: np.ndarray, height: int, width: int) -> RLE:
    return _as_text(coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width))


def _as_text(rle: dict) -> RLE:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
