"""Ways through a clip, and a stopwatch for where their CPU time goes: windows, photo by photo, and transformers.

Each way returns a call from nothing to the number of tracks; what it needs is loaded before. Every query is asked for
its mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.common import cpu_seconds
from benchmarks.network import their_model
from cropformer import ClipPredictor, Entities, EntitySegmenter, Queries, Views
from entitytransfer.clip_heads import ClipEntityHead
from entitytransfer.readers.video import VideoReader
from entitytransfer.streaming.segmented_clip import SegmentedClip
from entitytransfer.streaming.track_store import TrackStore
from entitytransfer.tracking.window_result import WindowResult, gather_window
from entitytransfer.tracklets import Linker, LinkRules
from entitytransfer.video import VideoSegmenter
from entitytransfer.writers.clip import ClipWriter

T = TypeVar("T")
FORMATS = ("overlay", "ids", "ytvis")
STAGES = ("decoding", "network", "head", "linking", "writing")


class Stopwatch:
    """CPU seconds of this process by stage; a stage within another counts for itself alone."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What the block takes belongs to this stage."""
        self._settle()
        self._open.append(name)
        try:
            yield
        finally:
            self._settle()
            self._open.pop()

    def items(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The same items; what it takes to get them belongs to this stage."""
        iterator, end = iter(items), object()
        while True:
            with self.stage(name):
                item = next(iterator, end)
            if item is end:
                return
            yield item

    @contextmanager
    def watching(self, owner: type, method: str, name: str) -> Iterator[None]:
        """Calls of this method belong to this stage while the block runs."""
        original = getattr(owner, method)

        def watched(*arguments: Any, **named: Any) -> Any:
            with self.stage(name):
                return original(*arguments, **named)

        with patch.object(owner, method, watched):
            yield

    def shares(self, cpu_s: float) -> dict[str, float]:
        """What part of all CPU seconds each stage took, by the name of its column."""
        return {f"{name}_share": seconds / cpu_s for name, seconds in self._seconds.items()}

    def _settle(self) -> None:
        now = cpu_seconds()
        if self._open:
            self._seconds[self._open[-1]] += now - self._since
        self._since = now


# --- ways


def windowed(
    model: EntitySegmenter, clip: Path, watch: Stopwatch, *, window: int, sides: dict[str, int], folder: Path | None
) -> Callable[[], int]:
    """Windows, of which two share a frame unless they hold only one; into files of every kind if there is a folder."""
    segmenter = VideoSegmenter(model, window=window, overlap=min(1, window - 1), min_score=0.0, **sides)
    frames_from = VideoReader.frames_from

    def run() -> int:
        with ExitStack() as stack:
            for owner, method, name in (
                (ClipPredictor, "predict", "network"),
                (ClipEntityHead, "predict_window", "head"),
                (Linker, "link", "linking"),
            ):
                stack.enter_context(watch.watching(owner, method, name))
            read = lambda reader, index: watch.items("decoding", frames_from(reader, index))  # noqa: E731
            stack.enter_context(patch.object(VideoReader, "frames_from", read))
            found = segmenter.segment(clip)
            return _count_tracks(found) if folder is None else _write(found, watch, folder)

    return run


def photos(
    model: EntitySegmenter, clip: Path, watch: Stopwatch, *, crops: int, sides: dict[str, int]
) -> Callable[[], int]:
    """Our image pipeline frame by frame, with so many crops of each."""
    head = ClipEntityHead(min_score=0.0)

    def predict(queries: Queries, views: Views) -> list[WindowResult]:
        with watch.stage("head"):
            return [head.predict_window(queries, views)]

    def find(image: np.ndarray) -> WindowResult:
        with watch.stage("network"):
            return model.predict([image], predict, crops=crops, **sides)[0]

    return lambda: _link_frames(clip, find, watch)


def transformers_photos(clip: Path, watch: Stopwatch, *, sides: dict[str, int]) -> Callable[[], int]:
    """Mask2Former of the transformers library frame by frame, with its own resizing and its own instances."""
    from transformers import Mask2FormerImageProcessor

    size = {"shortest_edge": sides["short_side"], "longest_edge": sides["max_side"]}
    processor, model = Mask2FormerImageProcessor(size=size, size_divisor=32), their_model()

    @torch.inference_mode()
    def find(image: np.ndarray) -> WindowResult:
        with watch.stage("network"):
            output = model(**processor(images=[image], return_tensors="pt"))
        with watch.stage("head"):
            return _their_instances(processor, output, image.shape[:2])

    return lambda: _link_frames(clip, find, watch)


def _their_instances(processor: Any, output: Any, size_hw: tuple[int, int]) -> WindowResult:
    """The library's instances of one frame.

    It does not tell which query an instance came from, but its label: so every query gets a class of its own, which
    leaves probabilities, choice and masks what they were.
    """
    logits = output.class_queries_logits[0]  # [Q,2]
    own = torch.full((len(logits), len(logits)), -torch.inf).fill_diagonal_(0) + logits[:, :1]
    output.class_queries_logits = torch.cat([own, logits[:, 1:]], dim=1)[None]  # [1,Q,Q+1]
    (found,) = processor.post_process_instance_segmentation(output, threshold=0.0, target_sizes=[size_hw])
    segments = found["segments_info"]
    query_ids = np.array([one["label_id"] for one in segments], dtype=np.int64)
    embeddings = output.transformer_decoder_last_hidden_state[0].numpy()
    id_map = found["segmentation"].numpy().astype(np.int32) + 1
    scores = [one["score"] for one in segments]
    entities = Entities.from_id_map(id_map, scores, np.zeros(len(segments)), embeddings[query_ids], query_ids)
    return gather_window(
        [entities.select(entities.areas() > 0)],
        class_probs=logits.softmax(-1).numpy(),
        embeddings=embeddings,
    )


def _link_frames(clip: Path, find: Callable[[np.ndarray], WindowResult], watch: Stopwatch) -> int:
    linker, tracks = Linker(LinkRules(overlap=0)), set()
    with VideoReader(clip) as reader:
        for frame in watch.items("decoding", reader):
            result = find(frame.image)
            with watch.stage("linking"):
                tracks.update(linker.link(result).track_ids.tolist())
    return len(tracks)


def _count_tracks(found: SegmentedClip) -> int:
    return len({track_id for window in found.windows for track_id in window.links.track_ids.tolist()})


def _write(found: SegmentedClip, watch: Stopwatch, folder: Path) -> int:
    """Everything that the ``segment`` command writes of a clip."""
    numbers = {"head": found.head, "fps": found.fps, "size_hw": found.size_hw}
    with TrackStore(folder / "tracks.sqlite", {}) as store, ExitStack() as stack:
        with watch.stage("writing"):
            writer = stack.enter_context(ClipWriter(store, folder, "clip", formats=FORMATS, **numbers))
        for window in found.windows:
            with watch.stage("writing"):
                store.append(window)
                for frame in window.frames:
                    writer.write(frame)
        with watch.stage("writing"):
            stack.close()
        return store.num_tracks
