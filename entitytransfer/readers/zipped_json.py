"""A JSON file as it is, or as the one file in a zip, which is what evaluation servers take."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cropformer import InputError

RESULTS_NAME = "results.json"
_MAX_COMPRESSION = 200  # results shrink to a third; what shrinks to less than this is made to fill the memory


@contextmanager
def unzipped(path: Path) -> Iterator[Path]:
    """A JSON file as it is, or the ``results.json`` at the top of a zip, unpacked for as long as it is needed.

    Raises:
        InputError: it is no sound zip or holds no such file.
    """
    if path.suffix.lower() != ".zip":
        yield path
        return
    with TemporaryDirectory() as folder:
        extracted = _extract(path, folder)
        try:
            yield Path(extracted)
        except InputError as error:
            raise InputError(str(error).replace(extracted, str(path / RESULTS_NAME))) from error


def _extract(path: Path, folder: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            if RESULTS_NAME not in archive.namelist():
                raise InputError(f"{path} has no {RESULTS_NAME} at its top, where servers look for it; zip it again.")
            member = archive.getinfo(RESULTS_NAME)
            if member.file_size > _MAX_COMPRESSION * max(member.compress_size, 1):
                raise InputError(f"{path} unpacks to {member.file_size} bytes, which no result does; zip it again.")
            return archive.extract(member, folder)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except Exception as error:  # zipfile raises many types on damaged bytes and on encrypted files
        raise InputError(f"{path} is not a sound zip ({error}); write it again.") from error
