"""A list of images or videos to score: a text file with one id on each line."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cropformer import InputError
from entitytransfer.readers.records import Id


def read_image_list(path: Path | None, numbers: Mapping[Id, int]) -> np.ndarray:
    """Indices of the listed images or videos, ascending int64; all of them without a list.

    Args:
        path: the list, or None.
        numbers: id in the ground truth → number, from 1.

    Raises:
        InputError: the file cannot be read, lists nothing, or lists an id that the ground truth does not have.
    """
    if path is None:
        return np.unique(np.array(list(numbers.values()), dtype=np.int64)) - 1
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read the image list {path}: {error}.") from error
    by_text = {str(one): number for one, number in numbers.items()}
    unknown = [(number, line) for number, line in enumerate(lines, start=1) if line and line not in by_text]
    if unknown:
        raise InputError(f"{path}, line {unknown[0][0]}: {unknown[0][1]!r} is not in the ground truth; remove it.")
    listed = [by_text[line] for line in lines if line]
    if not listed:
        raise InputError(f"{path} lists nothing; write one id on each line.")
    return np.unique(np.array(listed, dtype=np.int64)) - 1
