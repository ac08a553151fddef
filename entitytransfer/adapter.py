"""The narrow interface between a dataset and everything above it: its items as `Sample`, its four parts as `Adapter`.

Legend: N entities · K classes · H, W image pixels · h, w pixels of a view.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, overload

import numpy as np

from cropformer import (
    Cut,
    Entities,
    InputError,
    Queries,
    Views,
    cut_image,
    read_image,
    read_reduced,
    reduced_scale,
    rle,
)
from entitytransfer.classes import Classes
from entitytransfer.clip_result import ClipResult


@dataclass(frozen=True)
class Truth:
    """All that is annotated in one image, as metrics count it: crowds and hidden regions are among it.

    Attributes:
        rles: compressed COCO RLE, N of them.
        labels: int64 [N].
        areas: float64 [N], as the annotation states them: size ranges, and the unions of panoptic quality, go by these.
        is_crowd: bool [N].
    """

    rles: list[rle.RLE]
    labels: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray


class Annotation(Protocol):
    """What a reader knows about one image; it stays encoded until its masks are asked for.

    Masks may overlap, and one may be empty where other segments were painted over it.
    """

    def masks(self) -> np.ndarray:
        """Decode the masks: bool [N,H,W]."""

    def rles(self) -> list[rle.RLE]:
        """Return the masks as compressed COCO RLE, N of them."""

    def cut(self, cut: Cut) -> np.ndarray:
        """Return what a view shows of the masks: bool [N,h,w]; they are not decoded in full if that can be avoided."""

    def labels(self) -> np.ndarray:
        """Return one class label per mask: int64 [N]."""

    def truth(self) -> Truth:
        """Return all that is annotated, as metrics count it."""


@dataclass(frozen=True)
class Sample:
    """One dataset item: where its pixels are, how large they are, and what is annotated in them.

    Nothing is decoded before it is asked for, and nothing is kept afterwards, so a list of a hundred thousand
    samples is only an index and travels to data-loader workers by pickling.

    Attributes:
        image_id: the dataset's own id, a string in some sets.
        image_path: the image file.
        size_hw: height and width in pixels, as the annotation file states them.
        annotation: the encoded entities of this image.
        exhaustive: True if every region is annotated, so that an unmatched prediction is wrong; False if
            regions without annotation are unknown.
    """

    image_id: int | str
    image_path: Path
    size_hw: tuple[int, int]
    annotation: Annotation
    exhaustive: bool

    @property
    def frames(self) -> Sequence[Callable[[], np.ndarray]]:
        """Frames in time order, each a function without arguments that decodes it; an image has one."""
        return (partial(self.read_frame, 0),)

    def read_frame(self, index: int = 0) -> np.ndarray:
        """Decode one frame: uint8 RGB [H,W,3].

        Raises:
            InputError: the image cannot be read, or its size is not the annotated one.
        """
        if index != 0:
            raise IndexError(f"frame {index} of an image with one frame")
        image = read_image(self.image_path)
        check_size(self.image_path, image.shape[:2], self.size_hw)
        return image

    def read_views(self, cuts: Sequence[Cut], *, reduced: bool = True) -> list[np.ndarray]:
        """Decode the image once and cut the views out of it: uint8 RGB [h,w,3] each.

        Args:
            cuts: what the views show.
            reduced: decode a JPEG at a fraction of its size where no view needs more; see `read_reduced` for what
                that does to its pixels.

        Raises:
            InputError: the image cannot be read, or its size is not the annotated one.
        """
        image = read_reduced(self.image_path, scale=reduced_scale(cuts) if reduced else 1)
        check_size(self.image_path, image.size_hw, self.size_hw)
        return [cut_image(image.pixels, cut, scale=image.scale) for cut in cuts]

    def entity_masks(self) -> np.ndarray:
        """Decode the masks of all entities: bool [N,H,W]; they may overlap, and one may be empty.

        Raises:
            InputError: the annotation is damaged or does not fit the image.
        """
        return self.annotation.masks()

    def entity_rles(self) -> list[rle.RLE]:
        """Return the masks of all entities as compressed COCO RLE. Raises InputError as `entity_masks` does."""
        return self.annotation.rles()

    def cut_masks(self, cuts: Sequence[Cut]) -> list[np.ndarray]:
        """Cut the masks of all entities as the views show them: bool [N,h,w] each.

        Raises InputError as `entity_masks` does.
        """
        return [self.annotation.cut(cut) for cut in cuts]

    def labels(self) -> np.ndarray:
        """Return the class label of each entity: int64 [N], all 0 in a class-agnostic set."""
        return self.annotation.labels()

    def truth(self) -> Truth:
        """Return all that is annotated, as metrics count it. Raises InputError as `entity_masks` does."""
        return self.annotation.truth()


class SampleSet(Sequence[Sample]):
    """The samples of a set and the classes that they are labelled with.

    Args:
        samples: may be an index that makes each sample when it is asked for.
        classes: the meaning of their labels.
    """

    def __init__(self, samples: Sequence[Sample], classes: Classes) -> None:
        self._samples = samples
        self.classes = classes

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "SampleSet": ...

    def __getitem__(self, index: "int | slice") -> "Sample | SampleSet":
        """One sample, or the set of some."""
        found = self._samples[index]
        return SampleSet(found, self.classes) if isinstance(index, slice) else found

    @property
    def sizes_hw(self) -> np.ndarray | None:
        """Height and width of every image, int64 [images,2], where the index of the set has them."""
        return getattr(self._samples, "sizes_hw", None)

    @property
    def entity_counts(self) -> np.ndarray | None:
        """Number of entities of every image, int64 [images], where the index of the set has them."""
        return getattr(self._samples, "entity_counts", None)


Result = Entities | np.ndarray | ClipResult
"""What a head says about an image: entities, or a grey map, uint8 [H,W], 255 = surely foreground; or about a clip."""


@dataclass(frozen=True)
class LabelledMasks:
    """What a model shall learn of one image.

    Attributes:
        masks: of each view bool [N,h,w].
        labels: int64 [N], each below K.
    """

    masks: list[np.ndarray]
    labels: np.ndarray


class Head(Protocol):
    """What the queries of a model mean on a dataset: how they become results.

    Attributes:
        task: "entity", "instance", "panoptic", "semantic" or "dichotomous"; it decides in which files results are
            written.
        classes: K classes, for which the model needs a class head of as many.
    """

    task: str
    classes: Classes

    def predict(self, queries: Queries, views: Views) -> list[Result]:
        """The results for the B images of a batch."""


class Evaluator(Protocol):
    """A metric: takes the result for one sample after another, then gives named numbers."""

    def update(self, result: Result, sample: Sample) -> None:
        """Add one image."""

    def compute(self, units: np.ndarray | None = None) -> dict[str, float]:
        """The numbers over all images that all processes have added since the last reset; nan where undefined.

        Args:
            units: indices of the images to count, in the order of their ids, once for every time they are named;
                None counts each once.
        """

    def reset(self) -> None:
        """Forget all images."""


@dataclass(frozen=True)
class Adapter:
    """All that a transfer needs to know about a dataset and a task: from disk to metric in four functions.

    Attributes:
        read: root folder and the dataset's own options → samples and their classes.
        build_target: a sample and the cuts that its views show, of a clip also the frame of each view → what the model
            shall learn.
        build_head: classes → how queries become results.
        build_evaluator: classes → how results are judged.
    """

    read: Callable[..., SampleSet]
    build_target: Callable[..., LabelledMasks]
    build_head: Callable[[Classes], Head]
    build_evaluator: Callable[[Classes], Evaluator]


def check_size(path: Path, found_hw: tuple[int, int], stated_hw: tuple[int, int]) -> None:
    """Raise `InputError` unless an image has the size that its annotation states."""
    if found_hw != stated_hw:
        raise InputError(
            f"{path} has height and width {found_hw} but its annotation says "
            f"{stated_hw}; put back the original image or regenerate the annotation."
        )


def labelled_masks(sample: Sample, cuts: Sequence[Cut]) -> LabelledMasks:
    """The target of most datasets: every entity with its label."""
    return LabelledMasks(sample.cut_masks(cuts), sample.labels())
