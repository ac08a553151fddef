"""A clip to its files: the network segments frames while those before them are written."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from cropformer import EntitySegmenter, InputError, parse_memory, weights_path
from entitytransfer.classes import ENTITY, Classes
from entitytransfer.clip_heads import ClipHead, ClipInstanceHead, ClipPanopticHead
from entitytransfer.console import JobProgress
from entitytransfer.file_digest import sha256_of
from entitytransfer.jobs.inputs import Job
from entitytransfer.jobs.options import SegmentOptions
from entitytransfer.readers.video import PIPE, VideoReader
from entitytransfer.streaming.track_store import TrackStore, is_in_use
from entitytransfer.threads import Behind
from entitytransfer.tracklets import FrameResult
from entitytransfer.video import VideoSegmenter
from entitytransfer.writers.clip import ClipWriter

_FRAMES_BEHIND = 4  # a window's worth, so that the writing of one fits beside the segmentation of the next
_RANGE = ("stride", "start_frame", "end_frame", "start_s", "end_s", "backend")
_SHAPING = ("crops", "short_side", "max_side", "min_score", "precision", "head", "window", "overlap", "memory", *_RANGE)


@dataclass(frozen=True)
class ClipSummary:
    """A segmented clip in numbers; ``warning`` is a sentence if some of it could not be read."""

    frames: int
    tracks: int
    size_hw: tuple[int, int]
    warning: str | None


def clip_segmenter(model: EntitySegmenter, options: SegmentOptions) -> VideoSegmenter:
    """What segments the clips of a run.

    Raises:
        InputError: the head does not suit the weights, or the options contradict each other.
    """
    head = None if options.head == "entity" else _class_head(model, options)
    return VideoSegmenter(
        model,
        head=head,
        window=options.window,
        overlap=options.overlap,
        short_side=options.short_side,
        max_side=options.max_side,
        crops=options.crops or 0,
        min_score=options.min_score if head is None else None,
        memory=options.memory,
        max_memory=options.max_memory,
        precision=options.precision,
    )


def segment_clip(
    segmenter: VideoSegmenter,
    job: Job,
    options: SegmentOptions,
    *,
    progress: JobProgress,
    note_frames: Callable[[int], None] | None = None,
) -> ClipSummary:
    """Segment one clip window by window into its files.

    Until these are there, what is found is kept in the hidden folder ``.<name>_unfinished`` beside them. With
    ``options.resume`` a run goes on after the last window in it, with the same files in the end.

    Args:
        segmenter: see `clip_segmenter`.
        job: the clip.
        options: see there.
        progress: hears of every frame.
        note_frames: called after every window with the number of frames that are segmented by then.

    Raises:
        InputError: the clip cannot be read, its outputs cannot be written, or the run that it would go on with had
            other options.
    """
    base = options.out_dir / job.name
    with _kept_store(job, options) as store:
        clip = segmenter.segment(job.path, **_range(options), state=store.resume())
        numbers = {"head": segmenter.head, "fps": clip.fps, "size_hw": clip.size_hw, "sound": job.path}
        formats = job.formats(options.formats)
        with (
            ClipWriter(store, base.parent, base.name, formats=formats, **numbers) as writer,
            progress.frames(job.path.name, clip.expected_frames) as advance,
            Behind[None](threads=1, bound=_FRAMES_BEHIND) as writing,
        ):

            def settle(written: Future[None]) -> None:
                written.result()
                advance()

            for frame in _stored(store, job, options, with_pictures="overlay" in formats):
                writing.start(partial(writer.write, frame), Future.result)
            for window in clip.windows:
                store.append(window)
                if note_frames is not None:
                    note_frames(store.num_frames)
                for frame in window.frames:
                    writing.start(partial(writer.write, frame), settle)
        return ClipSummary(store.num_frames, store.num_tracks, clip.size_hw, clip.warning)


def is_unfinished(job: Job, options: SegmentOptions) -> bool:
    """Whether a run of this clip was stopped, whatever files of an earlier one are there."""
    return _store_path(job, options).exists()


def _store_path(job: Job, options: SegmentOptions) -> Path:
    base = options.out_dir / job.name
    return base.with_name(f".{base.name}_unfinished") / "tracks.sqlite"


@contextmanager
def _kept_store(job: Job, options: SegmentOptions) -> Iterator[TrackStore]:
    """The store of a clip; its folder goes when the clip is done, or if it failed before anything was segmented."""
    path = _store_path(job, options)
    folder = path.parent
    if not options.resume or str(job.path) == PIPE:
        if is_in_use(path):
            raise InputError(f"Another run is segmenting to {folder}; wait for its end, or choose another --out.")
        shutil.rmtree(folder, ignore_errors=True)
    is_of_use = True
    try:
        with TrackStore(path, _header(job, options)) as store:
            try:
                yield store
                is_of_use = False
            except Exception:
                is_of_use = store.num_frames > 0
                raise
    finally:
        if not is_of_use:
            shutil.rmtree(folder)


def _stored(store: TrackStore, job: Job, options: SegmentOptions, *, with_pictures: bool) -> Iterator[FrameResult]:
    """The frames that an earlier run has segmented."""
    if not (with_pictures and store.num_frames):
        yield from store.frames()
        return
    with VideoReader(job.path, **_range(options)) as reader:
        for result, frame in zip(store.frames(), reader):
            yield replace(result, image=frame.image)


def _class_head(model: EntitySegmenter, options: SegmentOptions) -> ClipHead:
    classes, max_memory = _classes(model, options), parse_memory(options.max_memory)
    if options.head == "panoptic":
        limits = {} if options.min_score is None else {"min_score": options.min_score}
        return ClipPanopticHead(classes, max_memory=max_memory, **limits)
    if options.min_score is not None:
        raise InputError("The instance head takes the best of a clip, however low; leave out --min-score.")
    return ClipInstanceHead(classes, max_memory=max_memory)


def _classes(model: EntitySegmenter, options: SegmentOptions) -> Classes:
    """What the labels of the model mean."""
    if model.classes is not None:
        return Classes(**{name: tuple(values) for name, values in model.classes.items()})
    if model.architecture.num_classes == len(ENTITY):
        return ENTITY
    raise InputError(
        f"The weights {options.weights} do not say what their {model.architecture.num_classes} classes are, which the "
        f"{options.head} head needs; use --head entity, or weights that were fine-tuned here."
    )


def _header(job: Job, options: SegmentOptions) -> dict[str, Any]:
    """What the results of a clip depend on."""
    size = job.path.stat().st_size if job.path.is_file() else None
    chosen = {name: getattr(options, name) for name in _SHAPING}
    return {"clip": job.path.name, "bytes": size, "weights_sha256": _digest(options.weights), **chosen}


@cache
def _digest(weights: str) -> str:
    return sha256_of(weights_path(weights))


def _range(options: SegmentOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in _RANGE}
