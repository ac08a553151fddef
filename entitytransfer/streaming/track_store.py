"""The tracks of one clip on disk: added window by window, so that a killed run goes on, and read back in any order.

A store is an SQLite database, to which a window is added whole or not at all. Nothing of it grows in memory with the
clip, but for a few numbers of each track while the tracks are judged.

N tracks · K classes · F frames.
"""

import json
import sqlite3
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cropformer import Entities, InputError, rle
from entitytransfer.clip_heads import ClipHead
from entitytransfer.predictions import ensure_writable
from entitytransfer.streaming.segmented_clip import WindowTracks
from entitytransfer.tracklets import FrameResult, Links

# A store belongs to one run from the first moment to the last; a window that is in it survives the end of the process.
# The masks of a frame keep their order, that of their rowid.
_SCHEMA = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA synchronous = NORMAL;
BEGIN EXCLUSIVE;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS frames (place INTEGER PRIMARY KEY, number INTEGER, time_s REAL);
CREATE TABLE IF NOT EXISTS masks (place INTEGER, track INTEGER, counts TEXT, score REAL, label INTEGER);
CREATE INDEX IF NOT EXISTS masks_of_frames ON masks (place);
CREATE INDEX IF NOT EXISTS masks_of_tracks ON masks (track, place);
CREATE TABLE IF NOT EXISTS tracks (track INTEGER PRIMARY KEY, class_probs BLOB, quality REAL);
COMMIT;
"""
# A track may be in those frames alone that the window before has decided otherwise.
_IS_SHOWN = "EXISTS (SELECT 1 FROM masks WHERE masks.track = tracks.track)"
_DTYPE = "<f8"


class StoredTrack(NamedTuple):
    """One result of a clip; an instance head may give several with the same id, which differ in their class.

    Attributes:
        track_id: from 1.
        label: from 0.
        score: of the track as a whole.
        rles: the mask in each of the F frames, None where it is not visible; read one by one, once.
    """

    track_id: int
    label: int
    score: float
    rles: Iterator[rle.RLE | None]


class TrackStore:
    """Context manager; what has been added stays when the block ends, however it ends.

    Args:
        path: the file, whose folder is made if needed; None = one without a name, which goes with the store.
        header: what the results depend on, as JSON; a store with another one is refused.

    Raises:
        InputError: the file is damaged, in use by another run, or made with another header, or cannot be written; also
            from every method.
    """

    def __init__(self, path: str | Path | None, header: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        if self.path is not None:
            ensure_writable(self.path.parent)
        with self._explained():
            self._connection = sqlite3.connect(self.path or "", timeout=0)
        try:
            with self._explained():
                self._connection.executescript(_SCHEMA)
            self._check(header)
        except InputError:
            self.close()
            raise

    def __enter__(self) -> "TrackStore":
        """Give the store itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # --- adding

    def resume(self) -> dict[str, Any] | None:
        """What `VideoSegmenter.segment` needs to go on after the last window; None before the first."""
        return self._fact("state")

    def append(self, window: WindowTracks) -> None:
        """Add a window; it is on disk when this returns."""
        with self._explained(), self._connection:
            for place, frame in enumerate(window.frames, start=self.num_frames):
                self._add_frame(place, frame)
            self._update_tracks(window.links)
            if window.frames:
                self._set_fact("size_hw", window.frames[0].entities.size_hw)
            self._set_fact("state", window.state)

    def _add_frame(self, place: int, frame: FrameResult) -> None:
        found = frame.entities
        counts = (one["counts"] for one in found.rles)
        columns = frame.track_ids.tolist(), counts, found.scores.tolist(), found.labels.tolist()
        self._connection.execute("INSERT INTO frames VALUES (?, ?, ?)", (place, frame.index, frame.time_s))
        rows = ((place, *row) for row in zip(*columns))
        self._connection.executemany("INSERT INTO masks VALUES (?, ?, ?, ?, ?)", rows)

    def _update_tracks(self, links: Links) -> None:
        probs = (row.astype(_DTYPE).tobytes() for row in links.class_probs)
        rows = zip(links.track_ids.tolist(), probs, links.qualities.tolist())
        self._connection.executemany("INSERT OR REPLACE INTO tracks VALUES (?, ?, ?)", rows)

    # --- reading

    @property
    def num_frames(self) -> int:
        """Number of frames F."""
        return self._number("SELECT COALESCE(MAX(place) + 1, 0) FROM frames")

    @property
    def num_tracks(self) -> int:
        """Number of tracks N that a frame shows, whatever a head will make of them."""
        return self._number(f"SELECT COUNT(*) FROM tracks WHERE {_IS_SHOWN}")

    def frame_numbers(self) -> array:
        """Number in the clip of each frame, F of them."""
        return array("q", (number for (number,) in self._rows("SELECT number FROM frames ORDER BY place")))

    def frames(self) -> Iterator[FrameResult]:
        """The frames in order, as they were added, but without pictures, embeddings and query ids."""
        size_hw = self._fact("size_hw")
        for place, number, time_s in self._rows("SELECT * FROM frames ORDER BY place"):
            query = "SELECT track, counts, score, label FROM masks WHERE place = ? ORDER BY rowid"
            rows = list(self._rows(query, place))
            track_ids, counts, scores, labels = zip(*rows) if rows else [()] * 4
            rles = [{"size": size_hw, "counts": one} for one in counts]
            entities = Entities.from_rles(size_hw, rles, scores, labels, sort=False)
            yield FrameResult(number, time_s, entities, np.array(track_ids, dtype=np.int64), None)

    def tracks(self, head: ClipHead) -> Iterator[StoredTrack]:
        """What a head makes of the tracks, in its order; one that no frame shows is none."""
        rows = list(self._rows(f"SELECT track, class_probs, quality FROM tracks WHERE {_IS_SHOWN} ORDER BY track"))
        if not rows:
            return
        track_ids, probs, qualities = zip(*rows)
        probs = np.frombuffer(b"".join(probs), dtype=_DTYPE).reshape(len(rows), -1)  # [N(K+1)] -> [N,K+1]
        verdict = head.judge(probs.copy(), np.array(qualities))
        for row, label, score in zip(*(column.tolist() for column in verdict)):
            yield StoredTrack(track_ids[row], label, score, self._masks(track_ids[row]))

    def _masks(self, track_id: int) -> Iterator[rle.RLE | None]:
        size_hw, frames = self._fact("size_hw"), self.num_frames
        rows = self._rows("SELECT place, counts FROM masks WHERE track = ? ORDER BY place", track_id)
        shown = 0
        for place, counts in rows:
            yield from repeat(None, place - shown)
            yield {"size": size_hw, "counts": counts}
            shown = place + 1
        yield from repeat(None, frames - shown)

    # --- the file

    def _check(self, header: Mapping[str, Any]) -> None:
        found, wanted = self._fact("header"), json.loads(json.dumps(dict(header)))
        if found is None:
            with self._explained(), self._connection:
                self._set_fact("header", wanted)
            return
        for name in {**wanted, **found}:
            here, there = wanted.get(name), found.get(name)
            if here != there:
                raise InputError(
                    f"{self.path} was made with {name}={there}, not {here}; go on with the same options, or begin anew."
                )

    def _fact(self, name: str) -> Any:
        for (value,) in self._rows("SELECT value FROM facts WHERE name = ?", name):
            return json.loads(value, object_hook=_decode)
        return None

    def _set_fact(self, name: str, value: Any) -> None:
        text = json.dumps(value, default=_encode)
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, text))

    def _number(self, query: str) -> int:
        ((number,),) = self._rows(query)
        return number

    def _rows(self, query: str, *values: Any) -> Iterator[tuple]:
        with self._explained():
            # Through map, as a cursor would be closed with this generator, which may be later than the store.
            yield from map(tuple, self._connection.execute(query, values))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            place = self.path or "a temporary file"
            raise InputError(
                f"Cannot work with {place} ({error}); what is in it is kept: free some space, or wait for another run "
                "that uses it."
            ) from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self.path} is damaged ({error}); remove it, and run it again from the start."
            ) from error


def is_in_use(path: Path) -> bool:
    """Whether a run has a store open, which keeps all others away."""
    if not path.exists():
        return False
    with closing(sqlite3.connect(path, timeout=0)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return True
        except sqlite3.DatabaseError:
            return False  # damaged, so that no run can have opened it
    return False


def _encode(array: np.ndarray) -> dict[str, Any]:
    """An array for JSON, to the last bit, and in a fifth of the room and a tenth of the time of its decimals."""
    return {"dtype": array.dtype.str, "shape": array.shape, "base64": b64encode(array.tobytes()).decode("ascii")}


def _decode(content: dict[str, Any]) -> Any:
    """Undo `_encode`."""
    if content.keys() != {"dtype", "shape", "base64"}:
        return content
    numbers = np.frombuffer(b64decode(content["base64"]), dtype=content["dtype"])
    return numbers.reshape(content["shape"])  # as they were
