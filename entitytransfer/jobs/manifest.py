"""What becomes of the clips of a run, in a file that tells it while the run goes on."""

import json
import time
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from entitytransfer.jobs.inputs import Job
from entitytransfer.predictions import write_json

_INTERVAL_S = 2.0  # between two notes of the frames of a clip
_FINAL = frozenset({"done", "failed"})


class Manifest:
    """The clips of one shard of a run with the state of each, written whole at every change.

    The file is ``manifest.json`` in the folder of the outputs, or ``manifest-i-of-n.json`` for shard i of n, so that
    each process writes its own: ``{"clips": [{"path", "name", "state", "frames", "tracks", "problem"}]}``. The state is
    waiting, running, done or failed; ``frames`` are those that are segmented; ``problem`` is a sentence: why the clip
    failed, or which part of it could not be read. Whichever shard finds all of them at their end joins them to one
    ``manifest.json``.

    Args:
        out_dir: the folder.
        shard: (i, n).
        clips: those of the shard; without any there is no file.
        total: number of clips of all shards; None = those are all.
    """

    def __init__(
        self, out_dir: Path, shard: tuple[int, int], clips: Sequence[Job], *, total: int | None = None
    ) -> None:
        self._joined = out_dir / "manifest.json"
        self._parts = [self._joined]
        if shard[1] > 1:
            self._parts = [out_dir / f"manifest-{index + 1}-of-{shard[1]}.json" for index in range(shard[1])]
        self.path = self._parts[shard[0] - 1]
        self._earlier = {entry["name"]: entry for path in (self._joined, self.path) for entry in _read(path)}
        self._clips = {job.name: _entry(job) for job in clips}
        self._total = len(clips) if total is None else total
        self._written_s = 0.0
        self._write()

    def belonged_to_another(self, job: Job) -> bool:
        """Whether an earlier run gave the name, and so the files, to another clip."""
        earlier = self._earlier.get(job.name)
        return job.is_clip and earlier is not None and Path(earlier["path"]).resolve() != job.path.resolve()

    def skipped(self, job: Job) -> None:
        """An earlier run has done the clip; what it noted is kept."""
        self._change(job, **self._earlier.get(job.name, {}) | {"path": str(job.path), "state": "done"})

    def running(self, job: Job, frames: int) -> None:
        """So many frames are segmented; noted now and then."""
        is_due = self._clips[job.name]["state"] != "running" or time.monotonic() - self._written_s >= _INTERVAL_S
        self._clips[job.name] |= {"state": "running", "frames": frames}
        if is_due:
            self._write()

    def done(self, job: Job, *, frames: int, tracks: int, warning: str | None) -> None:
        """The files of the clip are there."""
        self._change(job, state="done", frames=frames, tracks=tracks, problem=warning)

    def failed(self, job: Job, sentence: str) -> None:
        """The clip has no files, and why."""
        self._change(job, state="failed", problem=sentence)

    def join(self) -> None:
        """Join the manifests of all shards, if all of them have come to their end."""
        parts = [_read(path) for path in self._parts]
        clips = [entry for entries in zip_longest(*parts) for entry in entries if entry is not None]
        is_complete = len(clips) == self._total and all(entry["state"] in _FINAL for entry in clips)
        if len(parts) > 1 and clips and is_complete:
            write_json(self._joined, {"clips": clips})

    def _change(self, job: Job, **changes: Any) -> None:
        self._clips[job.name] |= changes
        self._write()

    def _write(self) -> None:
        if self._clips:
            write_json(self.path, {"clips": list(self._clips.values())})
            self._written_s = time.monotonic()


def _entry(job: Job) -> dict[str, Any]:
    numbers = {"frames": None, "tracks": None, "problem": None}
    return {"path": str(job.path), "name": job.name, "state": "waiting", **numbers}


def _read(path: Path) -> list[dict[str, Any]]:
    """The clips of a manifest; none where there is no file that this program wrote."""
    try:
        clips = json.loads(path.read_bytes())["clips"]
        return [entry for entry in clips if all(isinstance(entry[name], str) for name in ("name", "path", "state"))]
    except (OSError, ValueError, KeyError, TypeError):
        return []
