"""The statistics of a dataset that Table 2 of the paper compares: resolution, entities, shapes and covered area."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
from pycocotools import mask as coco_mask

from cropformer import InputError, rle
from entitytransfer.adapter import Sample
from entitytransfer.console import followed
from entitytransfer.shapes import measure_shape

_BLOCK = 1024  # images whose annotations are in memory or on their way to a worker at once
_CHUNK = 8  # images that go to a worker together


@dataclass(frozen=True)
class ImageMeasures:
    """One image; entities without a pixel are only counted.

    Attributes:
        size_hw: height and width in pixels.
        covered: pixels that belong to at least one entity.
        without_pixel: entities that have no pixel.
        convexities: float32 [N], of the entities that have pixels.
        simplicities: float32 [N].
    """

    size_hw: tuple[int, int]
    covered: int
    without_pixel: int
    convexities: np.ndarray
    simplicities: np.ndarray


@dataclass(frozen=True)
class SetMeasures:
    """Every image I and every entity N of a set: what the statistics and the plots are made of.

    Attributes:
        sizes_hw: int64 [I,2].
        covered: int64 [I], pixels that belong to at least one entity.
        entities: int64 [I], entities that have pixels.
        without_pixel: entities of the whole set that have none.
        convexities: float32 [N].
        simplicities: float32 [N].
    """

    sizes_hw: np.ndarray
    covered: np.ndarray
    entities: np.ndarray
    without_pixel: int
    convexities: np.ndarray
    simplicities: np.ndarray

    @property
    def pixels(self) -> np.ndarray:
        """Pixels of each image, int64 [I]."""
        return self.sizes_hw.prod(axis=1)

    @property
    def resolutions(self) -> np.ndarray:
        """Side of the square with as many pixels as each image, float64 [I]."""
        return np.sqrt(self.pixels)


@dataclass(frozen=True)
class Statistics:
    """One row of Table 2 and the numbers behind it; `DEFINITIONS` says what each of them is."""

    images: int
    entities: int
    entities_without_pixel: int
    image_resolution: float
    mean_height: float
    mean_width: float
    mean_pixels: float
    entities_mean: float
    entities_max: int
    complexity: float
    simplicity: float
    valid_area: float

    def to_dict(self) -> dict[str, int | float]:
        """The numbers by name."""
        return asdict(self)


DEFINITIONS = {
    "images": "images of the set",
    "entities": "entities that have at least one pixel",
    "entities_without_pixel": "annotated entities without any pixel, which are in no other number",
    "image_resolution": "mean over images of sqrt(height x width), in pixels",
    "mean_height": "mean over images, in pixels",
    "mean_width": "mean over images, in pixels",
    "mean_pixels": "mean over images of height x width",
    "entities_mean": "mean over images of the number of entities",
    "entities_max": "largest number of entities in one image",
    "complexity": "mean over all entities of the convexity: area / area of the convex hull of the pixels' squares",
    "simplicity": "mean over all entities of sqrt(4 pi area) / perimeter, at most 1; the perimeter is the "
    "Cauchy-Crofton estimate from border crossings in 8 directions, holes and the image's edge included",
    "valid_area": "mean over images of the share of pixels that belong to at least one entity",
}


def measure_set(samples: Sequence[Sample], *, workers: int) -> SetMeasures:
    """Measure every image of a set in worker processes, and show how far it is.

    Args:
        samples: the set.
        workers: processes; 1 measures in this one.

    Raises:
        InputError: the set has no image or no entity, or an annotation is damaged.
    """
    measured = list(followed(_measure_all(samples, workers=workers), name="images", total=len(samples)))
    if not measured:
        raise InputError("The dataset has no image, so there is nothing to measure; check root= and split=.")
    measures = SetMeasures(
        sizes_hw=np.array([image.size_hw for image in measured], dtype=np.int64),
        covered=np.array([image.covered for image in measured], dtype=np.int64),
        entities=np.array([len(image.convexities) for image in measured], dtype=np.int64),
        without_pixel=sum(image.without_pixel for image in measured),
        convexities=np.concatenate([image.convexities for image in measured]),
        simplicities=np.concatenate([image.simplicities for image in measured]),
    )
    if measures.convexities.size == 0:
        raise InputError(f"None of the {len(measured)} images has an entity to measure; check the annotation file.")
    return measures


def measure_image(sample: Sample) -> ImageMeasures:
    """Measure one image from its run lengths; no mask is decoded.

    Raises:
        InputError: the annotation is damaged.
    """
    rles = sample.entity_rles()
    shapes = [shape for shape in map(measure_shape, rles) if shape is not None]
    return ImageMeasures(
        size_hw=sample.size_hw,
        covered=rle.area(coco_mask.merge(rles)) if shapes else 0,
        without_pixel=len(rles) - len(shapes),
        convexities=np.array([shape.convexity for shape in shapes], dtype=np.float32),
        simplicities=np.array([shape.simplicity for shape in shapes], dtype=np.float32),
    )


def summarise(measures: SetMeasures) -> Statistics:
    """The statistics of a measured set."""
    height, width = measures.sizes_hw.mean(axis=0).tolist()
    return Statistics(
        images=len(measures.sizes_hw),
        entities=int(measures.entities.sum()),
        entities_without_pixel=measures.without_pixel,
        image_resolution=float(measures.resolutions.mean()),
        mean_height=height,
        mean_width=width,
        mean_pixels=float(measures.pixels.mean()),
        entities_mean=float(measures.entities.mean()),
        entities_max=int(measures.entities.max()),
        complexity=float(measures.convexities.mean(dtype=np.float64)),
        simplicity=float(measures.simplicities.mean(dtype=np.float64)),
        valid_area=float((measures.covered / measures.pixels).mean()),
    )


def _measure_all(samples: Sequence[Sample], *, workers: int) -> Iterator[ImageMeasures]:
    """Measure in the order of the set; a block at a time, so that a long set is never in memory as a whole."""
    if workers == 1:
        yield from (measure_image(samples[index]) for index in range(len(samples)))
        return
    with ProcessPoolExecutor(workers) as pool:
        for start in range(0, len(samples), _BLOCK):
            block = (samples[index] for index in range(start, min(start + _BLOCK, len(samples))))
            yield from pool.map(measure_image, block, chunksize=_CHUNK)
