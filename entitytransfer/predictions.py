"""Writing results to disk: every file appears whole or not at all, and a place that refuses says why."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cropformer import InputError, atomic_path

__all__ = ["atomic_path", "ensure_writable", "write_json", "write_png"]


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON. An undefined value is None: NaN, which JSON does not know, raises ValueError."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


def write_png(path: str | Path, pixels: np.ndarray) -> None:
    """Write uint8 RGB [H,W,3], uint8 grey [H,W] or uint16 ids [H,W] without loss."""
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def ensure_writable(folder: str | Path) -> Path:
    """Create the folder if needed and prove, before any work is done, that a file can be written there.

    Raises:
        InputError: the folder cannot be created, or takes no file.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"Cannot write to the folder {folder}: {error.strerror}; choose another folder.") from error
    return folder
