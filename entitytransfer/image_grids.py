"""What validation looks like: photo, prediction and truth side by side, in TensorBoard."""

from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from entitytransfer.adapter import Result, Sample
from entitytransfer.overlays import annotated_entities, shrunk


class ImageGrids(Callback):
    """Logs a picture of each of the first validation samples at every validation; the first process does it.

    ``validation_step`` must return the results for the samples of its batch.

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
        self, trainer: lightning.Trainer, module: Any, outputs: Sequence[Result], batch: Any, *_: Any
    ) -> None:
        """Draw the samples of a batch while there are some to draw."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not trainer.is_global_zero or not loggers:
            return
        for result, sample in list(zip(outputs, batch[1]))[: self.count - self.drawn]:
            picture = side_by_side(result, sample, max_side=self.max_side)
            for logger in loggers:
                tag = f"validation/{sample.image_id}"
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
