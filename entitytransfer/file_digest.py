"""What tells a file from all others: the SHA-256 of its content."""

import hashlib
from pathlib import Path

_CHUNK_BYTES = 2**20


def sha256_of(path: Path) -> str:
    """The digest of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
