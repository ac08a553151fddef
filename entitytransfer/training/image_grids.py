"""What validation looks like: photo, prediction and truth side by side, in TensorBoard."""

from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from cropformer import Entities, rle
from entitytransfer.adapter import Result, Sample
from entitytransfer.clip_result import ClipResult
from entitytransfer.clip_sample import ClipSample, sample_id
from entitytransfer.reports.overlays import annotated_entities, shrunk

_FRAMES = 3  # of a clip that are shown


class ImageGrids(Callback):
    """Logs a picture of each of the first validation samples at every validation; the first process does it.

    ``validation_step`` must return the results for the samples of its batch, or that for the clip that is its batch.

    Args:
        count: samples.
        max_side: bound on the longer side of each of the three parts, in pixels.
    """

    def __init__(self, *, count: int = 4, max_side: int = 640) -> None:
        self.count, self.max_side = count, max_side
        self.drawn = 0

    def on_validation_epoch_start(self, *_: Any) -> None:
        """Begin with the first sample again."""
        self.drawn = 0

    def on_validation_batch_end(
        self, trainer: lightning.Trainer, module: Any, outputs: Sequence[Result] | ClipResult, batch: Any, *_: Any
    ) -> None:
        """Draw the samples of a batch while there are some to draw."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not trainer.is_global_zero or not loggers:
            return
        pairs = [(outputs, batch)] if isinstance(batch, ClipSample) else list(zip(outputs, batch[1]))
        for result, sample in pairs[: self.count - self.drawn]:
            compare = frames_side_by_side if isinstance(sample, ClipSample) else side_by_side
            picture = compare(result, sample, max_side=self.max_side)
            for logger in loggers:
                tag = f"validation/{sample_id(sample)}"
                logger.experiment.add_image(tag, picture, trainer.global_step, dataformats="HWC")
            self.drawn += 1


def side_by_side(result: Result, sample: Sample, *, max_side: int) -> np.ndarray:
    """Photo, result and truth beside each other, uint8 RGB [h,3w,3], each at most ``max_side`` long.

    Raises:
        InputError: the photo or its annotation cannot be read.
    """
    photo = sample.read_frame()
    is_map = isinstance(result, np.ndarray)  # grey, [H,W]
    shown = result[..., None].repeat(3, axis=2) if is_map else result.draw(photo)
    pictures = [photo, shown, annotated_entities(sample).draw(photo)]
    return np.concatenate([shrunk(picture, max_side) for picture in pictures], axis=1)


def frames_side_by_side(result: ClipResult, clip: ClipSample, *, max_side: int) -> np.ndarray:
    """The same of some frames of a clip, one below the other; a track has one colour in all of them.

    Raises:
        InputError: a frame or the annotation cannot be read.
    """
    truth, rows = clip.truth(), []
    for index in np.unique(np.linspace(0, len(clip.frame_paths) - 1, _FRAMES).astype(int)).tolist():
        frame = clip.read_frame(index)
        shown = [_drawn(frame, tracks.rles, tracks.track_ids, index) for tracks in (result, truth)]
        rows.append(np.concatenate([shrunk(picture, max_side) for picture in (frame, *shown)], axis=1))
    return np.concatenate(rows)


def _drawn(
    image: np.ndarray, tracks: Sequence[Sequence[rle.RLE | None]], track_ids: np.ndarray, frame: int
) -> np.ndarray:
    """The tracks that a frame shows."""
    kept = [row for row, track in enumerate(tracks) if track[frame] is not None]
    masks, zeros = [tracks[row][frame] for row in kept], np.zeros(len(kept))
    return Entities.from_rles(image.shape[:2], masks, zeros, zeros).draw(image, color_ids=track_ids[kept])
