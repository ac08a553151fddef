"""A JSON file as it is, or as the one file in a zip, which is what evaluation servers take."""

import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cropformer import InputError
from entitytransfer.readers.json_file import read_json

RESULTS_NAME = "results.json"
_MAX_COMPRESSION = 200  # results shrink to a third; what shrinks to less than this is made to fill the memory


def read_json_or_zip(path: Path) -> Any:
    """Load a JSON file, or the ``results.json`` at the top of a zip.

    Raises:
        InputError: it cannot be read, is not JSON, or the zip holds no such file; see `read_json`.
    """
    return _read_zipped(path) if path.suffix.lower() == ".zip" else read_json(path)


def _read_zipped(path: Path) -> Any:
    with TemporaryDirectory() as folder:
        extracted = _extract(path, folder)
        try:
            return read_json(extracted)
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
