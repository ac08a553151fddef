"""The ``segment`` command: photos and clips in, files out; one bad input never stops the others."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from cropformer import Entities, EntitySegmenter, InputError, load, read_image
from entitytransfer.clip_writer import ClipWriter
from entitytransfer.console import JobProgress
from entitytransfer.image_writer import write_image
from entitytransfer.inputs import CLIP_OUTPUTS, FORMATS, IMAGE_OUTPUTS, Job, find_jobs
from entitytransfer.predictions import ensure_writable
from entitytransfer.video import VideoSegmenter


class JobError(RuntimeError):
    """A job failed although its input was not to blame; the cause is chained."""


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """How to segment and what to write; None leaves a number to the weights' own default.

    Attributes:
        out_dir: folder for the outputs, made if needed.
        formats: any of `FORMATS`; a photo and a clip take those that exist for them.
        weights: "nano", or the path of a checkpoint.
        device: "auto" (CUDA where there is one, else CPU), or a name that torch knows.
        crops: crops of a photo, 0 for its full view alone.
        short_side: pixels that the shorter side of a view is resized to.
        max_side: bound on its longer side.
        min_score: entities below it are left out.
        batch_size: photos that go through the model at once.
        stride: every so-many-th frame of a clip.
        start_frame: first frame of a clip.
        end_frame: the frame before which to stop.
        shard: (i, n), do the i-th of n equal parts; i counts from 1, and 0 means n.
        resume: skip inputs whose outputs all exist, whatever options made them.

    Raises:
        InputError: an unknown format, or an impossible shard.
    """

    out_dir: Path
    formats: frozenset[str] = frozenset(FORMATS)
    weights: str = "nano"
    device: str = "auto"
    crops: int | None = None
    short_side: int | None = None
    max_side: int | None = None
    min_score: float | None = None
    batch_size: int = 1
    stride: int = 1
    start_frame: int = 0
    end_frame: int | None = None
    shard: tuple[int, int] = (1, 1)
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuse what no input could make sense of."""
        unknown = sorted(self.formats - set(FORMATS))
        if unknown:
            raise InputError(f"There is no format {unknown[0]!r}; choose from {', '.join(FORMATS)}.")
        index, parts = self.shard
        if not 0 <= index <= parts or parts < 1:
            raise InputError(f"There is no shard {index}/{parts}; give i/n with i from 1 to n.")


@dataclass
class Outcome:
    """What became of the inputs: how many were ``done`` and ``skipped``, and the ``errors`` of the others."""

    done: int = 0
    skipped: int = 0
    errors: list[Exception] = field(default_factory=list)


@dataclass(frozen=True)
class ClipSummary:
    """A segmented clip in numbers; ``warning`` is a sentence if some of it could not be read."""

    frames: int
    tracks: int
    size_hw: tuple[int, int]
    warning: str | None


def segment(paths: Sequence[str | Path], options: SegmentOptions) -> Outcome:
    """Segment every photo and clip that the paths stand for, see `find_jobs`, and report on the way.

    Raises:
        InputError: the output folder cannot be written, or the weights or the device do not exist.
    """
    jobs, errors = find_jobs(paths, out_dir=options.out_dir)
    outcome = Outcome(errors=list(errors))
    jobs = _select(jobs, options, outcome)
    if jobs:
        ensure_writable(options.out_dir)
        model = load_model(options.weights, device=options.device)
        with JobProgress(len(jobs)) as progress:
            run = _Run(model, options, outcome, progress)
            for batch in _batches(jobs, size=options.batch_size):
                if batch[0].is_clip:
                    run.clip(batch[0])
                else:
                    run.images(batch)
    return outcome


def load_model(weights: str, *, device: str = "auto") -> EntitySegmenter:
    """The weights on a device.

    Raises:
        InputError: no such weights, or no such device on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"This machine has no device {device!r}; try --device cpu.") from error
    return load(weights).to(device)


def segment_clip(model: EntitySegmenter, job: Job, options: SegmentOptions, *, progress: JobProgress) -> ClipSummary:
    """Segment one clip frame by frame into its files.

    Raises:
        InputError: the clip cannot be read, or its outputs cannot be written.
    """
    sizes = {"short_side": options.short_side, "max_side": options.max_side}
    clip = VideoSegmenter(model, **sizes, min_score=options.min_score).segment(
        job.path, stride=options.stride, start_frame=options.start_frame, end_frame=options.end_frame
    )
    base = options.out_dir / job.name
    formats = job.formats(options.formats)
    frames, tracks = 0, 0
    with (
        ClipWriter(base.parent, base.name, formats=formats, fps=clip.fps, size_hw=clip.size_hw) as writer,
        progress.frames(job.path.name, clip.expected_frames) as advance,
    ):
        for frame in clip:
            writer.write(frame)
            frames, tracks = frames + 1, int(frame.track_ids.max(initial=tracks))
            advance()
    return ClipSummary(frames, tracks, clip.size_hw, clip.warning)


def segment_images(
    model: EntitySegmenter, paths: Sequence[Path], options: SegmentOptions
) -> list[tuple[np.ndarray, Entities] | Exception]:
    """Read and segment a batch of photos: each with its entities, or the error that kept it from them.

    A batch that fails as a whole is done again one by one, so that only the culprit is lost.
    """
    try:
        images = [read_image(path) for path in paths]
        found = model.segment_batch(
            images,
            crops=options.crops,
            short_side=options.short_side,
            max_side=options.max_side,
            min_score=options.min_score,
        )
        return list(zip(images, found))
    except Exception as error:
        if len(paths) == 1:
            return [error]
    return [segment_images(model, [path], options)[0] for path in paths]


class _Run:
    """The jobs of one call of `segment`, each of them done or among the errors of the outcome."""

    def __init__(
        self, model: EntitySegmenter, options: SegmentOptions, outcome: Outcome, progress: JobProgress
    ) -> None:
        self._model = model
        self._options = options
        self._outcome = outcome
        self._progress = progress

    def images(self, jobs: Sequence[Job]) -> None:
        start_s = time.perf_counter()
        results = segment_images(self._model, [job.path for job in jobs], self._options)
        seconds = (time.perf_counter() - start_s) / len(jobs)
        for job, result in zip(jobs, results):
            with self._recorded(job):
                if isinstance(result, Exception):
                    raise result
                image, entities = result
                formats = job.formats(self._options.formats)
                write_image(self._options.out_dir, job.name, image=image, entities=entities, formats=formats)
                self._progress.finish(f"{job.path}: {len(entities)} entities in {seconds:.1f} s")

    def clip(self, job: Job) -> None:
        start_s = time.perf_counter()
        with self._recorded(job):
            result = segment_clip(self._model, job, self._options, progress=self._progress)
            if result.warning:
                self._progress.warn(result.warning)
            seconds = time.perf_counter() - start_s
            self._progress.finish(f"{job.path}: {result.tracks} tracks in {result.frames} frames in {seconds:.1f} s")

    @contextmanager
    def _recorded(self, job: Job) -> Iterator[None]:
        """Count the job as done, or keep its error and go on."""
        try:
            yield
        except Exception as error:
            self._outcome.errors.append(_about(job, error))
            self._progress.finish(f"{job.path}: not segmented")
        else:
            self._outcome.done += 1


def _about(job: Job, error: Exception) -> Exception:
    """The error as one that says which input it is about."""
    if not isinstance(error, InputError):
        about = JobError(f"Segmenting {job.path} failed with {type(error).__name__}: {error}")
    elif str(job.path) in str(error) or job.name in str(error):
        return error
    else:
        about = InputError(f"{job.path}: {error}")
    about.__cause__ = error
    return about


def _select(jobs: Sequence[Job], options: SegmentOptions, outcome: Outcome) -> list[Job]:
    """The jobs of this shard that are still to be done; the outcome hears of the others."""
    index, parts = options.shard
    selected = []
    for job in jobs[(index - 1) % parts :: parts]:
        outputs = [options.out_dir / name for name in job.output_names(options.formats)]
        if not outputs:
            kind, others = ("video", CLIP_OUTPUTS) if job.is_clip else ("photo", IMAGE_OUTPUTS)
            sentence = f"{job.path} is a {kind}, which gives none of the chosen formats; add {', '.join(others)}."
            outcome.errors.append(InputError(sentence))
        elif options.resume and all(path.exists() for path in outputs):
            outcome.skipped += 1
        else:
            selected.append(job)
    return selected


def _batches(jobs: Sequence[Job], *, size: int) -> Iterator[list[Job]]:
    """Neighbouring photos together, at most ``size`` of them; every clip alone."""
    for is_clip, group in groupby(jobs, key=lambda job: job.is_clip):
        same_kind, step = list(group), 1 if is_clip else size
        for start in range(0, len(same_kind), step):
            yield same_kind[start : start + step]
