"""Many clips through Ray Data: paths in, rows of tracks out, one model in every worker.

``ray.data.from_items([{"path": path} for path in paths]).map_batches(ClipTracks, batch_size=1, concurrency=2,
fn_constructor_kwargs={"weights": "nano"})`` does it with two workers. Ray comes with ``pip install cropformer[ray]``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from cropformer import InputError, rle
from entitytransfer.jobs.clips import clip_segmenter
from entitytransfer.jobs.options import HeadName, SegmentOptions
from entitytransfer.segment import load_model
from entitytransfer.streaming.track_store import StoredTrack, TrackStore

Batch: TypeAlias = dict[str, np.ndarray]


class ClipTracks:
    """A stateful callable for ``map_batches``: a batch with the column ``path`` in, a batch for each track out.

    Rows are ``path``; ``track_id``, from 1; ``category_id`` and ``category``, as the weights call the class; ``score``;
    ``frames``, the numbers of the frames that show the track; ``masks``, their COCO RLEs as JSON, a list as long; and
    ``problem``, empty unless part of the clip could not be read. A clip that cannot be read at all gives one row with
    the track 0 and the problem: it stops no other. A worker needs no more memory for a longer clip than one track's
    masks; the rest waits in the temporary folder of its machine.

    Args:
        weights: "nano", a published name, an ``hf://`` address, or a path.
        device: "auto" (CUDA where Ray gives the worker a GPU, else CPU), or a name that torch knows.
        head: what to look for, see `clip_heads`; the classes are those of the weights.
        window: frames that the model sees at once; None = all of a short clip.
        overlap: frames that consecutive windows share.
        memory: windows that an entity may be out of sight and keep its id.
        short_side: pixels that the shorter side of a frame is resized to; None = the weights' own.
        max_side: bound on its longer side; None likewise.
        min_score: entities below it are left out; None likewise.
        stride: take every so-many-th frame.

    Raises:
        InputError: the weights do not exist, or do not suit the other arguments.
    """

    def __init__(
        self,
        weights: str = "nano",
        *,
        device: str = "auto",
        head: HeadName = "entity",
        window: int | None = 4,
        overlap: int = 1,
        memory: int = 10,
        short_side: int | None = None,
        max_side: int | None = None,
        min_score: float | None = None,
        stride: int = 1,
    ) -> None:
        self._stride = stride
        options = SegmentOptions(
            out_dir=Path(),  # nothing is written
            weights=weights,
            head=head,
            window=window,
            overlap=overlap,
            memory=memory,
            short_side=short_side,
            max_side=max_side,
            min_score=min_score,
        )
        self._segmenter = clip_segmenter(load_model(weights, device=device), options)

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        """Segment the clips of a batch one after another."""
        for path in batch["path"].tolist():
            try:
                yield from self._tracks(Path(path))
            except InputError as error:
                yield _row(path, problem=str(error))

    def _tracks(self, path: Path) -> Iterator[Batch]:
        with TrackStore(None, {}) as store:
            clip = self._segmenter.segment(path, stride=self._stride)
            for window in clip.windows:
                store.append(window)
            numbers = store.frame_numbers()
            for track in store.tracks(clip.head):
                yield self._track_row(path, track, numbers, problem=clip.warning or "")

    def _track_row(self, path: Path, track: StoredTrack, numbers: Sequence[int], *, problem: str) -> Batch:
        classes = self._segmenter.head.classes
        shown = [(number, mask) for mask, number in zip(track.rles, numbers) if mask is not None]
        return _row(
            str(path),
            track_id=track.track_id,
            category_id=classes.category_ids[track.label],
            category=classes.names[track.label],
            score=track.score,
            frames=[number for number, _ in shown],
            masks=[mask for _, mask in shown],
            problem=problem,
        )


def _row(
    path: str,
    *,
    track_id: int = 0,
    category_id: int = 0,
    category: str = "",
    score: float = 0.0,
    frames: list[int] | None = None,
    masks: list[rle.RLE] | None = None,
    problem: str = "",
) -> Batch:
    """A batch of one row, whose columns have the same types whatever is in them."""
    return {
        "path": np.array([path]),
        "track_id": np.array([track_id], dtype=np.int64),
        "category_id": np.array([category_id], dtype=np.int64),
        "category": np.array([category]),
        "score": np.array([score], dtype=np.float64),
        "frames": np.array([frames or []], dtype=np.int64),
        "masks": np.array([json.dumps(masks or [])]),
        "problem": np.array([problem]),
    }
