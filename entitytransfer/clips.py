"""A clip to its files: the network segments frames while those before them are written."""

from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from cropformer import EntitySegmenter
from entitytransfer.clip_writer import ClipWriter
from entitytransfer.console import JobProgress
from entitytransfer.inputs import Job
from entitytransfer.segment_options import SegmentOptions
from entitytransfer.threads import Behind
from entitytransfer.video import VideoSegmenter

_FRAMES_BEHIND = 4  # a window's worth, so that the writing of one fits beside the segmentation of the next


@dataclass(frozen=True)
class ClipSummary:
    """A segmented clip in numbers; ``warning`` is a sentence if some of it could not be read."""

    frames: int
    tracks: int
    size_hw: tuple[int, int]
    warning: str | None


def segment_clip(model: EntitySegmenter, job: Job, options: SegmentOptions, *, progress: JobProgress) -> ClipSummary:
    """Segment one clip frame by frame into its files.

    Raises:
        InputError: the clip cannot be read, or its outputs cannot be written.
    """
    sizes = {"short_side": options.short_side, "max_side": options.max_side}
    clip = VideoSegmenter(model, **sizes, min_score=options.min_score).segment(
        job.path,
        stride=options.stride,
        start_frame=options.start_frame,
        end_frame=options.end_frame,
        start_s=options.start_s,
        end_s=options.end_s,
        backend=options.backend,
    )
    base = options.out_dir / job.name
    formats = job.formats(options.formats)
    frames, tracks = 0, 0
    writer = ClipWriter(base.parent, base.name, formats=formats, fps=clip.fps, size_hw=clip.size_hw, sound=job.path)
    with (
        writer,
        progress.frames(job.path.name, clip.expected_frames) as advance,
        Behind[None](threads=1, bound=_FRAMES_BEHIND) as writing,
    ):

        def settle(written: Future[None]) -> None:
            written.result()
            advance()

        for frame in clip:
            frames, tracks = frames + 1, int(frame.track_ids.max(initial=tracks))
            writing.start(partial(writer.write, frame), settle)
    return ClipSummary(frames, tracks, clip.size_hw, clip.warning)
