"""The ``segment`` command: photos and clips in, files out; one bad input never stops the others."""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from cropformer import Entities, EntitySegmenter, InputError, load, read_image
from entitytransfer.console import JobProgress
from entitytransfer.jobs.clips import clip_segmenter, is_unfinished, segment_clip
from entitytransfer.jobs.inputs import Job, find_jobs
from entitytransfer.jobs.manifest import Manifest
from entitytransfer.jobs.options import SegmentOptions
from entitytransfer.jobs.photos import batches, segment_images
from entitytransfer.predictions import ensure_writable
from entitytransfer.threads import Behind, started_ahead, thread_pool
from entitytransfer.video import VideoSegmenter
from entitytransfer.writers.formats import CLIP_OUTPUTS, IMAGE_OUTPUTS, PANOPTIC_FORMATS
from entitytransfer.writers.image import write_image

_THREADS = min(4, os.cpu_count() or 1)  # for reading, and as many for writing; the network has its own
_PIXELS_BEHIND = 40_000_000  # of the photos that wait to be written, or one photo if it is larger


class SegmentError(RuntimeError):
    """A job failed although its input was not to blame; the cause is chained."""


@dataclass
class Outcome:
    """What became of the inputs: how many were ``done`` and ``skipped``, and the ``errors`` of the others."""

    done: int = 0
    skipped: int = 0
    errors: list[Exception] = field(default_factory=list)


def segment(paths: Sequence[str | Path], options: SegmentOptions) -> Outcome:
    """Segment every photo and clip that the paths stand for, see `find_jobs`, and report on the way.

    While the network runs, the next batch of photos is read and the last ones are written.

    Raises:
        InputError: the output folder cannot be written, the weights or the device do not exist, or the options for
            clips do not suit the weights or each other.
    """
    jobs, errors = find_jobs(paths, out_dir=options.out_dir, frames=options.frames)
    total_clips = sum(job.is_clip for job in jobs)
    index, parts = options.shard
    jobs = jobs[(index - 1) % parts :: parts]
    outcome = Outcome(errors=list(errors))
    if jobs:
        ensure_writable(options.out_dir)
    clips = [job for job in jobs if job.is_clip]
    manifest = Manifest(options.out_dir, options.shard, clips, total=total_clips)
    jobs = _select(jobs, options, outcome, manifest)
    if jobs:
        model = load_model(options.weights, device=options.device)
        model = model.compiled() if options.compile else model
        segmenter = clip_segmenter(model, options)
        with (
            JobProgress(len(jobs)) as progress,
            thread_pool(_THREADS) as reading,
            Behind[int](threads=_THREADS, bound=_PIXELS_BEHIND) as writing,
        ):
            run = _Run(model, segmenter, options, outcome, manifest, progress, writing)
            for batch, images in started_ahead(batches(jobs, model, options), partial(_read, reading)):
                if batch[0].is_clip:
                    run.clip(batch[0])
                else:
                    run.photos(batch, images)
    manifest.join()
    return outcome


def load_model(weights: str, *, device: str = "auto") -> EntitySegmenter:
    """The weights on a device.

    Raises:
        InputError: no such weights, or no such device on this machine.
    """
    return load(weights).to(find_device(device))


def find_device(name: str) -> torch.device:
    """The device that a name means; "auto" is CUDA where there is one, else the CPU.

    Raises:
        InputError: this machine has none of that name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"This machine has no device {name!r}; try --device cpu.") from error


def _read(pool: Executor, jobs: list[Job]) -> tuple[list[Job], deque["Future[np.ndarray]"]]:
    """A batch with its photos as they are being read; a clip is read when its turn comes."""
    return jobs, deque(pool.submit(read_image, job.path) for job in jobs if not job.is_clip)


def _taken(reading: deque["Future[np.ndarray]"]) -> list[np.ndarray | Exception]:
    """Each photo, or why it cannot be read; taken out, so that it is freed as soon as it has been written."""
    taken: list[np.ndarray | Exception] = []
    while reading:
        try:
            taken.append(reading.popleft().result())
        except Exception as error:
            taken.append(error)
    return taken


def _write(job: Job, image: np.ndarray, entities: Entities | Exception, options: SegmentOptions) -> int:
    """Write a photo's files and give the number of its entities, or raise what kept it from them."""
    if isinstance(entities, Exception):
        raise entities
    write_image(options.out_dir, job.name, image=image, entities=entities, formats=job.formats(options.formats))
    return len(entities)


class _Run:
    """The jobs of one call of `segment`, each of them done or among the errors of the outcome."""

    def __init__(
        self,
        model: EntitySegmenter,
        segmenter: VideoSegmenter,
        options: SegmentOptions,
        outcome: Outcome,
        manifest: Manifest,
        progress: JobProgress,
        writing: Behind[int],
    ) -> None:
        self._model = model
        self._segmenter = segmenter
        self._options = options
        self._outcome = outcome
        self._manifest = manifest
        self._progress = progress
        self._writing = writing

    def photos(self, jobs: Sequence[Job], reading: deque["Future[np.ndarray]"]) -> None:
        """Segment a batch and have its files written while the next one is segmented."""
        start_s = time.perf_counter()
        images = _taken(reading)
        results = segment_images(self._model, images, self._options)
        seconds = (time.perf_counter() - start_s) / len(jobs)
        for job, image, entities in zip(jobs, images, results):
            pixels = 0 if isinstance(image, Exception) else image.shape[0] * image.shape[1]
            finish = partial(self._finish_photo, job, seconds)
            self._writing.start(partial(_write, job, image, entities, self._options), finish, size=pixels)

    def clip(self, job: Job) -> None:
        """Segment a clip once all photos before it are done, so that the lines keep their order."""
        self._writing.drain()
        start_s = time.perf_counter()
        with self._recorded(job):
            note_frames = partial(self._manifest.running, job)
            result = segment_clip(self._segmenter, job, self._options, progress=self._progress, note_frames=note_frames)
            if result.warning:
                self._progress.warn(result.warning)
            self._manifest.done(job, frames=result.frames, tracks=result.tracks, warning=result.warning)
            seconds = time.perf_counter() - start_s
            self._progress.finish(f"{job.path}: {result.tracks} tracks in {result.frames} frames in {seconds:.1f} s")

    def _finish_photo(self, job: Job, seconds: float, written: "Future[int]") -> None:
        with self._recorded(job):
            self._progress.finish(f"{job.path}: {written.result()} entities in {seconds:.1f} s")

    @contextmanager
    def _recorded(self, job: Job) -> Iterator[None]:
        """Count the job as done, or keep its error and go on."""
        try:
            yield
        except Exception as error:
            self._outcome.errors.append(_about(job, error))
            self._progress.finish(f"{job.path}: not segmented")
            if job.is_clip:
                self._manifest.failed(job, str(self._outcome.errors[-1]))
        else:
            self._outcome.done += 1


def _about(job: Job, error: Exception) -> Exception:
    """The error as one that says which input it is about."""
    if not isinstance(error, InputError):
        about = SegmentError(f"Segmenting {job.path} failed with {type(error).__name__}: {error}")
    elif str(job.path) in str(error) or job.name in str(error):
        return error
    else:
        about = InputError(f"{job.path}: {error}")
    about.__cause__ = error
    return about


def _is_done(job: Job, outputs: Sequence[Path], options: SegmentOptions, manifest: Manifest) -> bool:
    """Whether an earlier run has done it: its files are there, no run was stopped since, and they are no other's."""
    is_there = all(path.exists() for path in outputs)
    return is_there and not is_unfinished(job, options) and not manifest.belonged_to_another(job)


def _select(jobs: Sequence[Job], options: SegmentOptions, outcome: Outcome, manifest: Manifest) -> list[Job]:
    """The jobs that are still to be done; the outcome, and for clips the manifest, hear of the others."""
    selected = []
    for job in jobs:
        outputs = [options.out_dir / name for name in job.output_names(options.formats)]
        if not outputs:
            kind, others = ("video", CLIP_OUTPUTS) if job.is_clip else ("photo", IMAGE_OUTPUTS)
            names = ", ".join(name for name in others if name not in PANOPTIC_FORMATS)
            sentence = f"{job.path} is a {kind}, which gives none of the chosen formats; add {names}."
            outcome.errors.append(InputError(sentence))
            if job.is_clip:
                manifest.failed(job, sentence)
        elif options.resume and _is_done(job, outputs, options, manifest):
            outcome.skipped += 1
            if job.is_clip:
                manifest.skipped(job)
        else:
            selected.append(job)
    return selected
