"""Files on the Hugging Face hub: an address, and the checked local copy of what it names.

Downloading, resuming, logging in and caching are those of ``huggingface_hub``. It is imported where it is used: models
on the disk need no hub.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InputError

_ADDRESS = re.compile(
    r"hf:/{1,2}(?:(?P<kind>models|datasets)/)?"  # one slash is left of two after a trip through ``Path``
    r"(?P<repo>(?!(?:models|datasets|spaces)/)[\w.-]+/[\w.-]+)(?:/(?P<path>[^@]+))?(?:@(?P<revision>refs/[\w./-]+|[^@/]+))?"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class HubFile:
    """One file of one repository.

    Attributes:
        repo: "owner/name".
        path: of the file inside the repository.
        revision: branch, tag or commit; a full commit needs no network once the file is in the cache.
        repo_type: "model" or "dataset".
    """

    repo: str
    path: str = "model.safetensors"
    revision: str = "main"
    repo_type: Literal["model", "dataset"] = "model"

    @classmethod
    def parse(cls, address: str) -> HubFile:
        """Read ``hf://[datasets/]owner/name[/path][@revision]``.

        Raises:
            InputError: if the address has another form.
        """
        parts = _ADDRESS.fullmatch(address)
        path = parts["path"] or cls.path if parts else ""
        if parts is None or {"", ".", ".."} & set(path.split("/")):
            raise InputError(
                f"{address} is no address of a file on the hub; write hf://owner/name/path/of/file@revision, "
                "with hf://datasets/ in front of the owner for a dataset repository"
            )
        repo_type = "dataset" if parts["kind"] == "datasets" else "model"
        return cls(parts["repo"], path, parts["revision"] or cls.revision, repo_type)

    @property
    def location(self) -> str:
        """The repository below the address of the hub."""
        return f"datasets/{self.repo}" if self.repo_type == "dataset" else self.repo

    @property
    def page(self) -> str:
        """Where a person reads about the repository."""
        return f"{endpoint()}/{self.location}"

    def __str__(self) -> str:
        """The address, as ``parse`` reads it."""
        return f"hf://{self.location}/{self.path}@{self.revision}"


def endpoint() -> str:
    """The hub that is asked: ``HF_ENDPOINT`` as it stands now, or the public one."""
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")


def download(file: HubFile, *, sha256: str | None = None) -> Path:
    """The file in the user's Hugging Face cache, fetched if it is not there yet and checked every time.

    Args:
        file: what to fetch.
        sha256: what its content must hash to; None for the hash that the hub states, which the cache keeps for every
            large file on a disk with symbolic links.

    Raises:
        InputError: if the hub does not have the file or does not give it, cannot be reached, or the disk is full; if
            the content has another hash, after removing it from the cache.
    """
    from huggingface_hub import hf_hub_download

    try:
        local = hf_hub_download(
            file.repo, file.path, revision=file.revision, repo_type=file.repo_type, endpoint=endpoint()
        )
    except Exception as error:  # requests, httpx and hf_xet have no error in common
        raise InputError(_explain(error, file)) from error
    path = Path(local)
    _verify(path, file, sha256 or _stated_sha256(path))
    return path


def _verify(path: Path, file: HubFile, expected: str | None) -> None:
    """Raise InputError and clear the cache of the file unless it hashes to ``expected``; None is not checked."""
    if expected is None or (actual := _hash(path)) == expected:
        return
    _discard(path)
    raise InputError(
        f"{file} should have sha256 {expected} and has {actual}; it was removed from the cache, so try again, and if "
        "that does not help the file on the hub is not the one that was meant"
    )


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _stated_sha256(path: Path) -> str | None:
    """The hub's own hash of a cached file: snapshots link to blobs, and blobs of large files are named by sha256."""
    blob = path.readlink().name if path.is_symlink() else ""
    return blob if _SHA256.fullmatch(blob) else None


def _discard(path: Path) -> None:
    """Remove a cached file with all that it links to."""
    with suppress(OSError):  # a cache that may only be read stays as it is
        target = path.parent / path.readlink() if path.is_symlink() else None
        path.unlink()
        if target is not None:
            _discard(target)


def _explain(error: Exception, file: HubFile) -> str:
    """One sentence for what went wrong on the way to a file."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):  # not in the cache either; the cause tells why not online
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{file} is not in the cache and HF_HUB_OFFLINE is set; unset it, or fetch the file once while online"
    if isinstance(error, errors.GatedRepoError) or status(error) == 403:
        return f"{file} is gated; accept its conditions on {file.page}, run `hf auth login`, and try again"
    if isinstance(error, errors.RepositoryNotFoundError) or status(error) == 401:
        kind = file.repo_type
        return f"{endpoint()} shows you no {kind} {file.repo}; check the name, or run `hf auth login` if it is private"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{file.page} has no revision {file.revision}; give a branch, a tag or a full commit"
    if isinstance(error, errors.EntryNotFoundError) and status(error) == 404:
        return f"{file.page} has no file {file.path} at revision {file.revision}; choose one that its page lists"
    if isinstance(error, errors.HFValidationError):
        return f"{file} is no address of a file on the hub: {reason(error)}"
    if no_space(error):
        return f"No space left on the device while fetching {file}; free some, or point HF_HOME to another disk"
    return f"{file} could not be fetched from {endpoint()} ({reason(error)}); check the connection and try again"


def status(error: BaseException) -> int | None:
    """The HTTP status that an error of ``huggingface_hub`` carries, if any."""
    return getattr(getattr(error, "response", None), "status_code", None)


def no_space(error: BaseException) -> bool:
    """Whether a full disk is what an error is about; hf_xet says so in words only."""
    return getattr(error, "errno", None) in _NO_SPACE or "No space left" in str(error)


def reason(error: BaseException) -> str:
    """The first line of an error, or its type where it has no words."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
