"""Writing a file whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from cropformer.errors import InputError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it becomes ``path`` on success and is removed on failure.

    The temporary name keeps the suffix, from which writers guess the format, and is hidden.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid4().hex[:12]}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        reason = _explain(error, path, temporary)
        if reason is None:
            raise
        raise InputError(reason) from error
    finally:
        with suppress(OSError):  # nothing was written, or it has become `path`
            temporary.unlink()


def _explain(error: OSError, path: Path, temporary: Path) -> str | None:
    """One sentence when the error is about writing ``path``, None when it is about something else."""
    if error.errno in _NO_SPACE:
        return f"No space left on the device while writing {path}; earlier outputs are kept, free some space."
    if error.filename is not None and os.fspath(error.filename) == os.fspath(temporary):
        return f"Cannot write {path}: {error.strerror}; choose another place or fix its permissions."
    return None
