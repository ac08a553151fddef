"""JSON files of unknown origin: whatever is in them, reading gives Python values or one sentence."""

import gc
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cropformer import InputError


@contextmanager
def paused_collector() -> Iterator[None]:
    """Make millions of records without the collector of cycles, which would walk all of them again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def said_errors(path: Path | str) -> Iterator[None]:
    """Turn what can go wrong while a JSON file is read into one sentence, an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"Cannot read the annotation file {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); download or write it again.") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply for an annotation file; download or write it again.") from error
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory; split it or use a larger machine.") from error


@paused_collector()
def read_json(path: Path | str) -> Any:
    """Load a JSON file.

    Raises:
        InputError: it cannot be read, is not JSON, is nested beyond reason, or does not fit into memory.
    """
    with said_errors(path):
        return json.loads(Path(path).read_bytes().decode("utf-8-sig"))  # its bytes are let go before it is parsed


def check_fields(content: Any, names: Iterable[str], *, path: Path | str) -> None:
    """Raise `InputError` unless what is in a file is an object that has all of these fields."""
    missing = [name for name in names if not isinstance(content, dict) or name not in content]
    if missing:
        raise InputError(f"{path} has no field '{missing[0]}'; check that it is a COCO-format annotation file.")
