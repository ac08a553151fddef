"""What becomes of the clips of a run, in a file that tells it while the run goes on."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from entitytransfer.inputs import Job
from entitytransfer.predictions import write_json

_INTERVAL_S = 2.0  # between two notes of the frames of a clip


class Manifest:
    """The clips of one shard of a run with the state of each, written whole at every change.

    The file is ``manifest.json`` in the folder of the outputs, or ``manifest-i-of-n.json`` for shard i of n, so that
    each process writes its own: ``{"clips": [{"path", "name", "state", "frames", "tracks", "problem"}]}``. The state is
    waiting, running, done or failed; ``frames`` are those that are segmented; ``problem`` is a sentence: why the clip
    failed, or which part of it could not be read.

    Args:
        out_dir: the folder.
        shard: (i, n).
        clips: those of the shard; without any there is no file.
    """

    def __init__(self, out_dir: Path, shard: tuple[int, int], clips: Sequence[Job]) -> None:
        index, count = shard[0] or shard[1], shard[1]
        self.path = out_dir / ("manifest.json" if count == 1 else f"manifest-{index}-of-{count}.json")
        self._earlier = self._read()
        self._clips = {job.name: _entry(job) for job in clips}
        self._written_s = 0.0
        self._write()

    def skipped(self, job: Job) -> None:
        """An earlier run has done the clip; what it noted is kept."""
        earlier = self._earlier.get(job.name, {})
        self._change(job, **(earlier if earlier.get("path") == str(job.path) else {}) | {"state": "done"})

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

    def _change(self, job: Job, **changes: Any) -> None:
        self._clips[job.name] |= changes
        self._write()

    def _read(self) -> dict[str, dict[str, Any]]:
        """The clips of an earlier run by name; none where there is no manifest that this program wrote."""
        try:
            return {entry["name"]: entry for entry in json.loads(self.path.read_bytes())["clips"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write(self) -> None:
        if self._clips:
            write_json(self.path, {"clips": list(self._clips.values())})
            self._written_s = time.monotonic()


def _entry(job: Job) -> dict[str, Any]:
    numbers = {"frames": None, "tracks": None, "problem": None}
    return {"path": str(job.path), "name": job.name, "state": "waiting", **numbers}
