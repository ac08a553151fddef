"""Memory bounds: what a user may write, and how much of the network fits below them.

Shapes: B images, T views, C channels, H and W pixels, h and w of a level.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass

from .errors import InputError

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
VIEWS_AT_ONCE = 8  # more do not make an accelerator faster
FLOAT_BYTES = 4
TEMPORARIES = 256 * 2**20  # bytes that fusion and heads take unless told otherwise
TEMPORARY_PLANES = 6  # stride-4 maps of C channels that one view needs while it is encoded; measured with Swin-T
FINE_TEMPORARY_PLANES = 12  # the same with a fine level, whose maps are four times as large


def parse_memory(bound: str | int | None) -> int | None:
    """Bytes of a bound such as "2GB", "500 MB", "1.5GiB" or 2_000_000_000; None stays None.

    Raises:
        InputError: if it is no positive amount of memory.
    """
    if bound is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(bound).strip(), re.IGNORECASE)
    scale = UNITS.get(found[2].upper()) if found else None
    size = int(float(found[1]) * scale) if found and scale else 0
    if size <= 0:
        raise InputError(f"max_memory is {bound!r}, which is no amount of memory; write it like 2GB, 500MB or 1.5GiB")
    return size


def temporaries_bound(max_memory: int | None) -> int:
    """Bytes that the temporaries of fusion and heads may take; None for the default.

    Raises:
        InputError: if they are not positive.
    """
    if max_memory is not None and max_memory <= 0:
        raise InputError(f"max_memory is {max_memory} bytes; give a positive number, or None for the default")
    return max_memory or TEMPORARIES


@dataclass(frozen=True)
class NetworkMemory:
    """Bytes that the network needs beside its weights, for images of T views [H,W]; an estimate.

    Attributes:
        shared: for each image: mask features, and the keys and values that its views share in the batch decoder.
        encoding: for each view that goes through backbone and pixel decoder at the same time.
    """

    shared: int
    encoding: int

    @classmethod
    def estimate(
        cls, size_hw: tuple[int, int], *, views: int, channels: int, fine_level: bool = False
    ) -> NetworkMemory:
        """For ``views`` = T views of a size in pixels and a decoder of ``channels`` = C, maybe with a fine level."""
        plane = math.prod(size_hw) // 16 * channels * FLOAT_BYTES
        levels = plane // 4 + plane // 16 + plane // 64
        # mask features, levels, keys, values, mask features at their sizes; projected keys and values of the largest
        kept = plane + 4 * levels + 2 * plane // 4
        if not fine_level:
            return cls(shared=views * kept, encoding=TEMPORARY_PLANES * plane)
        return cls(shared=views * (kept + 4 * plane), encoding=FINE_TEMPORARY_PLANES * plane)

    def images_at_once(self, bound: int | None, *, images: int) -> int:
        """How many of ``images`` go through the network together.

        One where even that one does not fit, which is said in a warning: a photo that needs more than it was
        allowed is worth more than none.
        """
        if bound is None:
            return images
        if self.shared + self.encoding > bound:
            warnings.warn(
                f"max_memory is {_megabytes(bound)}, but the views of one image need about "
                f"{_megabytes(self.shared + self.encoding)} in the network; lower short_side and max_side or the "
                "number of crops to stay below it",
                stacklevel=2,
            )
        return max(1, min(images, (bound - self.encoding) // self.shared))

    def views_at_once(self, bound: int | None, *, images: int) -> int:
        """How many views an accelerator encodes together while ``images`` are in the network."""
        if bound is None:
            return VIEWS_AT_ONCE
        return max(1, min(VIEWS_AT_ONCE, (bound - images * self.shared) // self.encoding))


def _megabytes(size: int) -> str:
    return f"{size / 10**6:.0f} MB"
