"""Turning pictures the way that their file asks for: phones film sideways and say so."""

import av
import numpy as np


def display_matrix_of(picture: av.VideoFrame) -> np.ndarray:
    """How a file wants its pictures turned, int32 [3,3].

    Ask one picture only: access to side data keeps a picture in memory until the garbage collector runs.
    """
    matrix = picture.side_data.get("DISPLAYMATRIX")
    return np.eye(3, dtype=np.int32) if matrix is None else np.frombuffer(matrix, np.int32).reshape(3, 3).copy()


def orient(image: np.ndarray, display_matrix: np.ndarray) -> np.ndarray:
    """Turn and mirror coded pixels [H,W,3] by a display matrix (ISO/IEC 14496-12, 6.2.2).

    It says x' = ax + cy, y' = bx + dy. A slanted matrix is taken as the nearest quarter turn or mirroring.
    """
    (a, b), (c, d) = display_matrix[:2, :2].tolist()
    if abs(b) > abs(a):
        a, d = c, b
        image = image.transpose(1, 0, 2)  # [H,W,3] -> [W,H,3]
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def is_turned(display_matrix: np.ndarray) -> bool:
    """Whether a file wants its pictures turned or mirrored at all."""
    (a, b), (_, d) = display_matrix[:2, :2].tolist()
    return abs(b) > abs(a) or a < 0 or d < 0


def is_mirrored(display_matrix: np.ndarray) -> bool:
    """Whether a file wants more than turns."""
    (a, b), (c, d) = display_matrix[:2, :2].tolist()
    return a * d < b * c
