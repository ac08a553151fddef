"""Photos in batches: those of one canvas go through the model together, at their full number of views."""

from collections.abc import Hashable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from cropformer import Entities, EntitySegmenter, Views
from entitytransfer.jobs.inputs import Job
from entitytransfer.jobs.options import SegmentOptions

_LOOK_AHEAD = 256  # inputs whose headers are read before their turn, to find those of one canvas
_TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap height and width


def batches(jobs: Sequence[Job], model: EntitySegmenter, options: SegmentOptions) -> Iterator[list[Job]]:
    """Photos of one canvas together, at most ``options.batch_size`` of them; every clip alone.

    The first input that waits is always in the next batch, with its like among the inputs within the look-ahead: at
    a batch size of 1 their order stays, and no input waits for the end of the folder.
    """
    size = options.batch_size
    upcoming = iter(jobs)
    window: list[tuple[Job, Hashable]] = []
    while True:
        more = islice(upcoming, max(_LOOK_AHEAD, size) - len(window))
        window += ((job, job if job.is_clip or size == 1 else canvas_of(job.path, model, options)) for job in more)
        if not window:
            return
        first = window[0][1]
        chosen = [i for i, (_, canvas) in enumerate(window) if canvas == first][:size]
        yield [window[i][0] for i in chosen]
        window = [entry for i, entry in enumerate(window) if i not in set(chosen)]


def canvas_of(path: Path, model: EntitySegmenter, options: SegmentOptions) -> tuple[int, int] | None:
    """Height and width of the canvas of a photo's views, from the header of its file alone.

    None if that does not tell: then reading the photo will say why.
    """
    try:
        return Views.canvas_hw(
            _size_hw(path),
            crops=model.settings.crops if options.crops is None else options.crops,
            short_side=options.short_side or model.settings.short_side,
            max_side=options.max_side or model.settings.max_side,
            crop_ratio=model.settings.crop_ratio,
        )
    except Exception:  # Pillow's parsers raise almost any type on damaged bytes
        return None


def _size_hw(path: Path) -> tuple[int, int]:
    """Size as a viewer shows the photo."""
    with Image.open(path) as file:
        # Not file.getexif(): for a PNG that decodes the pixels, in search of a block behind them.
        turned = Image.Image.getexif(file).get(ExifTags.Base.Orientation) in _TURNED
        # A TIFF has the size that is shown already.
        return file.size if turned and file.format != "TIFF" else file.size[::-1]


def segment_images(
    model: EntitySegmenter, images: Sequence[np.ndarray | Exception], options: SegmentOptions
) -> list[Entities | Exception]:
    """Segment a batch of photos, uint8 RGB [H,W,3]: each one's entities, or the error that kept it from them.

    An error in the place of a photo stays. A batch that fails as a whole is done again one by one, so that only the
    culprit is lost.
    """
    readable = [image for image in images if not isinstance(image, Exception)]
    found = iter(_segment_readable(model, readable, options))
    return [image if isinstance(image, Exception) else next(found) for image in images]


def _segment_readable(
    model: EntitySegmenter, images: Sequence[np.ndarray], options: SegmentOptions
) -> list[Entities | Exception]:
    try:
        return list(
            model.segment_batch(
                images,
                crops=options.crops,
                short_side=options.short_side,
                max_side=options.max_side,
                min_score=options.min_score,
                max_memory=options.max_memory,
                precision=options.precision,
            )
        )
    except Exception as error:
        if len(images) == 1:
            return [error]
    return [_segment_readable(model, [image], options)[0] for image in images]
