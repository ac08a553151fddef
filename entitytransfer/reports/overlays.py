"""Pictures of a sample that are small enough for logs and pages."""

import numpy as np
from PIL import Image

from cropformer import Entities, rle
from entitytransfer.adapter import Sample


def annotated_entities(sample: Sample) -> Entities:
    """The annotated entities of a sample, the smallest on top where they overlap.

    Raises:
        InputError: the annotation cannot be read.
    """
    rles = sample.entity_rles()
    return Entities.from_rles(sample.size_hw, rles, [-rle.area(encoded) for encoded in rles], sample.labels())


def shrunk(picture: np.ndarray, max_side: int) -> np.ndarray:
    """A picture, uint8 RGB [H,W,3], made small enough for its longer side to be at most ``max_side``."""
    image = Image.fromarray(picture)
    image.thumbnail((max_side, max_side))
    return np.asarray(image)
