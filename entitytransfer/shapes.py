"""How complex the outline of a mask is: its convexity and simplicity, measured on its runs without decoding it.

Both are 1 for a disc and lower for complex shapes (Zhu et al., Semantic Amodal Segmentation, CVPR 2017). An entity of
several parts is one shape. Legend: R runs, each within one column · W columns.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull

from cropformer import rle

# Steps (columns, rows) to a neighbour along which the border crossings are counted, one of each opposite pair.
STEPS = ((1, 0), (2, 1), (1, 1), (1, 2), (0, 1), (-1, 2), (-1, 1), (-2, 1))
PADDING = 2  # rows of nothing between two columns: as many as the steps go up or down


@dataclass(frozen=True)
class Shape:
    """The measures of one mask.

    Attributes:
        area: number of pixels.
        hull_area: area of the convex hull of its pixels' squares.
        perimeter: length of its border in pixels, holes and the image's edge included.
    """

    area: int
    hull_area: float
    perimeter: float

    @property
    def convexity(self) -> float:
        """Area / area of the convex hull: 1 for a convex shape."""
        return self.area / self.hull_area

    @property
    def simplicity(self) -> float:
        """sqrt(4 pi area) / perimeter: 1 for a disc; at most 1, which the estimate for a few pixels would exceed."""
        return min(1.0, math.sqrt(4 * math.pi * self.area) / self.perimeter)


def measure_shape(encoded: rle.RLE) -> Shape | None:
    """Measure one mask; None if it has no pixel.

    Raises:
        InputError: the runs are not a mask of the stated size.
    """
    columns, tops, bottoms = _column_runs(encoded)
    if columns.size == 0:
        return None
    area = int((bottoms - tops).sum())
    return Shape(area, _hull_area(columns, tops, bottoms), _perimeter(columns, tops, bottoms))


def _column_runs(encoded: rle.RLE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column, first row and row after the last of every run [R], cut where a column ends, in reading order."""
    height, _ = encoded["size"]
    edges = np.cumsum(rle.runs(encoded))
    starts = edges[: edges.size - edges.size % 2 : 2]
    ends = edges[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    first, last = starts // height, (ends - 1) // height
    pieces = last - first + 1
    run = np.repeat(np.arange(pieces.size), pieces)
    columns = first[run] + np.arange(run.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    tops = np.where(columns == first[run], starts[run] % height, 0)
    bottoms = np.where(columns == last[run], (ends[run] - 1) % height + 1, height)
    return columns, tops, bottoms


def _hull_area(columns: np.ndarray, tops: np.ndarray, bottoms: np.ndarray) -> float:
    """Area of the convex hull of the corners of all pixels: of the highest and lowest ones of each column."""
    first = np.flatnonzero(np.diff(columns, prepend=-1))  # each column's first run; the one before is another's last
    left, top, bottom = columns[first], tops[first], bottoms[np.append(first[1:], columns.size) - 1]
    corners = [np.stack([x, y], axis=1) for x in (left, left + 1) for y in (top, bottom)]  # 4 x [W,2]
    return float(ConvexHull(np.concatenate(corners)).volume)  # of a hull in the plane, this is the area


def _perimeter(columns: np.ndarray, tops: np.ndarray, bottoms: np.ndarray) -> float:
    """Length of the border by the Cauchy-Crofton formula.

    The length of a curve is the mean over all directions of how often parallel lines cross it, times pi / 2. Lines
    of pixels in the eight directions of `STEPS` stand for all, each for the angles nearest to it. Discs come out
    right; a straight line is at most 1.5 % too short or 1.4 % too long, whatever its angle; a right angle takes up
    to half a pixel away.
    """
    height = int(bottoms.max()) + PADDING
    starts, ends = columns * height + tops, columns * height + bottoms
    edges = np.stack([starts, ends], axis=1).ravel()  # [R,2] -> [2R]
    inside_before = np.concatenate([[0], np.cumsum(ends - starts).repeat(2)[:-1]])
    area = inside_before[-1]
    crossed = 0.0
    for (right, down), angle in zip(STEPS, _angles(), strict=True):
        step = right * height + down
        shared = np.interp(ends - step, edges, inside_before) - np.interp(starts - step, edges, inside_before)
        crossed += angle * (area - shared.sum()) / math.hypot(right, down)
    return crossed


def _angles() -> np.ndarray:
    """For each of `STEPS` the angles that are nearest to it, in radians; together half a turn."""
    directions = np.array([math.atan2(down, right) for right, down in STEPS])
    turns = np.diff(directions, append=directions[0] + math.pi)
    return (turns + np.roll(turns, 1)) / 2
