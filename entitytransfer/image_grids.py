"""What validation looks like: photo, prediction and truth side by side, in TensorBoard."""

from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from cropformer import Entities, rle
from entitytransfer.adapter import Sample


class ImageGrids(Callback):
    """Logs a picture of each of the first validation samples at every validation; the first process does it.

    ``validation_step`` must return the entities of the samples of its batch.

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
        self, trainer: lightning.Trainer, module: Any, outputs: Sequence[Entities], batch: Any, *_: Any
    ) -> None:
        """Draw the samples of a batch while there are some to draw."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not trainer.is_global_zero or not loggers:
            return
        for entities, sample in list(zip(outputs, batch[1]))[: self.count - self.drawn]:
            picture = side_by_side(entities, sample, max_side=self.max_side)
            for logger in loggers:
                tag = f"validation/{sample.image_id}"
                logger.experiment.add_image(tag, picture, trainer.global_step, dataformats="HWC")
            self.drawn += 1


def side_by_side(entities: Entities, sample: Sample, *, max_side: int) -> np.ndarray:
    """Photo, prediction and truth beside each other, uint8 RGB [h,3w,3], each at most ``max_side`` long.

    Raises:
        InputError: the photo or its annotation cannot be read.
    """
    photo = sample.read_frame()
    pictures = [photo, entities.draw(photo), _truth(sample).draw(photo)]
    return np.concatenate([_shrunk(picture, max_side) for picture in pictures], axis=1)


def _truth(sample: Sample) -> Entities:
    """The annotated entities, the smallest on top where they overlap."""
    rles = sample.entity_rles()
    return Entities.from_rles(sample.size_hw, rles, [-rle.area(encoded) for encoded in rles], sample.labels())


def _shrunk(picture: np.ndarray, max_side: int) -> np.ndarray:
    image = Image.fromarray(picture)
    image.thumbnail((max_side, max_side))
    return np.asarray(image)
