"""A dataset item that is a clip: where its frames are, how large they are, and which tracks are annotated in them.

Legend: N tracks · F frames · H, W image pixels · h, w pixels of a view.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np

from cropformer import Cut, InputError, cut_image, read_image, read_reduced, reduced_scale, rle
from entitytransfer.adapter import Annotation, LabelledMasks, Sample, check_size

Kind: TypeAlias = Literal["images", "clips"]


@dataclass(frozen=True)
class ClipTruth:
    """All that is annotated in one clip, as metrics count it: crowds are among it, last.

    In panoptic sets the tracks do not overlap, and each that is there in a frame is a segment of it.

    Attributes:
        rles: N tracks of F compressed COCO RLEs, None where the track is not visible or nothing is annotated.
        labels: int64 [N].
        category_ids: int64 [N], as the annotation states them.
        track_ids: int64 [N]; in panoptic sets the ids of the segments, in others numbers from 1.
        areas: float64 [N,F], as the annotation states them, 0 where it states none.
        is_crowd: bool [N].
    """

    rles: list[list[rle.RLE | None]]
    labels: np.ndarray
    category_ids: np.ndarray
    track_ids: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray


class ClipAnnotation(Protocol):
    """What a reader knows about one clip; it stays encoded until its masks are asked for.

    The N tracks are the same in every frame; crowds are in the truth alone.
    """

    def labels(self) -> np.ndarray:
        """Return one class label per track: int64 [N]."""

    def rles(self, frame: int) -> list[rle.RLE | None]:
        """Return the masks of a frame as compressed COCO RLE, N of them; None where a track is absent or unknown."""

    def cut(self, frame: int, cut: Cut) -> np.ndarray:
        """Return what a view shows of the masks of a frame: bool [N,h,w], without a pixel where a track is absent."""

    def truth(self) -> ClipTruth:
        """Return all that is annotated, as metrics count it."""


@dataclass(frozen=True)
class ClipSample:
    """One dataset item: a clip.

    Nothing is decoded before it is asked for, and nothing is kept afterwards, as in a `Sample`.

    Attributes:
        clip_id: the dataset's own id, a string in some sets.
        frame_paths: the F image files in time order.
        size_hw: height and width of every frame in pixels, as the annotation file states them.
        annotation: the encoded tracks.
        exhaustive: True if every region, or every one of a listed category, is annotated, so that an unmatched
            prediction is wrong; False if regions without annotation are unknown.
        annotated: the frames that have annotation, ascending; in the others nothing is known. None = all.
    """

    clip_id: int | str
    frame_paths: tuple[Path, ...]
    size_hw: tuple[int, int]
    annotation: ClipAnnotation
    exhaustive: bool
    annotated: tuple[int, ...] | None = None

    @property
    def frames(self) -> Sequence[Callable[[], np.ndarray]]:
        """Frames in time order, each a function without arguments that decodes it."""
        return tuple(partial(self.read_frame, index) for index in range(len(self.frame_paths)))

    def read_frame(self, index: int) -> np.ndarray:
        """Decode one frame: uint8 RGB [H,W,3].

        Raises:
            InputError: the image cannot be read, or its size is not the annotated one.
        """
        path = self.frame_paths[index]
        image = read_image(path)
        check_size(path, image.shape[:2], self.size_hw)
        return image

    def read_views(self, index: int, cuts: Sequence[Cut], *, reduced: bool = True) -> list[np.ndarray]:
        """Decode one frame once and cut views out of it: uint8 RGB [h,w,3] each.

        Args:
            index: the frame.
            cuts: what the views show.
            reduced: decode a JPEG at a fraction of its size where no view needs more; see `read_reduced`.

        Raises:
            InputError: the image cannot be read, or its size is not the annotated one.
        """
        path = self.frame_paths[index]
        image = read_reduced(path, scale=reduced_scale(cuts) if reduced else 1)
        check_size(path, image.size_hw, self.size_hw)
        return [cut_image(image.pixels, cut, scale=image.scale) for cut in cuts]

    def frame_rles(self, index: int) -> list[rle.RLE | None]:
        """Return the masks of the tracks in one frame as compressed COCO RLE, N of them; None where one is absent."""
        return self.annotation.rles(index)

    def cut_masks(self, index: int, cuts: Sequence[Cut]) -> list[np.ndarray]:
        """Cut the masks of the tracks in one frame as the views show them: bool [N,h,w] each.

        Raises:
            InputError: the annotation is damaged or does not fit the frame.
        """
        return [self.annotation.cut(index, cut) for cut in cuts]

    def labels(self) -> np.ndarray:
        """Return the class label of each track: int64 [N], all 0 in a class-agnostic set."""
        return self.annotation.labels()

    def truth(self) -> ClipTruth:
        """Return all that is annotated, as metrics count it. Raises InputError as `cut_masks` does."""
        return self.annotation.truth()


class PseudoClip(ClipSample):
    """An image shown as a clip of equal frames, so that a model can be trained on images and clips together.

    Args:
        sample: the image.
        frames: F.
    """

    def __init__(self, sample: Sample, frames: int) -> None:
        annotation = _StillAnnotation(sample.annotation, frames)
        paths = (sample.image_path,) * frames
        super().__init__(sample.image_id, paths, sample.size_hw, annotation, sample.exhaustive)


def sample_id(sample: Sample | ClipSample) -> int | str:
    """The dataset's own id of an image or a clip."""
    return sample.clip_id if isinstance(sample, ClipSample) else sample.image_id


def holds_clips(samples: Sequence[Sample | ClipSample]) -> bool:
    """Whether the samples of a set, which holds one at least, are clips."""
    return isinstance(samples[0], ClipSample)


def refuse_clips(samples: Sequence[Sample | ClipSample], *, instead: str) -> None:
    """Stop what is made for images alone.

    Raises:
        InputError: the set holds clips; ``instead`` says what to do.
    """
    if len(samples) and holds_clips(samples):
        raise InputError(f"The set holds clips, and only images can be measured so; {instead}.")


def kind_of(samples: Sequence[Sample | ClipSample]) -> Kind:
    """What the samples of a set are called."""
    return "clips" if holds_clips(samples) else "images"


def labelled_tracks(clip: ClipSample, cuts: Sequence[Cut], frames: Sequence[int]) -> LabelledMasks:
    """The target of most clips: every track with its label.

    Args:
        clip: the clip.
        cuts: what T views show.
        frames: the frame of each view.
    """
    masks = [clip.cut_masks(frame, [cut])[0] for cut, frame in zip(cuts, frames, strict=True)]
    return LabelledMasks(masks, clip.labels())


@dataclass(frozen=True)
class _StillAnnotation:
    """The entities of an image as tracks that do not move; without ids of their own they are numbered from 1."""

    image: Annotation
    num_frames: int

    def labels(self) -> np.ndarray:
        return self.image.labels()

    def rles(self, frame: int) -> list[rle.RLE | None]:
        return list(self.image.rles())

    def cut(self, frame: int, cut: Cut) -> np.ndarray:
        return self.image.cut(cut)

    def truth(self) -> ClipTruth:
        truth = self.image.truth()
        return ClipTruth(
            rles=[[one] * self.num_frames for one in truth.rles],
            labels=truth.labels,
            category_ids=truth.labels,
            track_ids=np.arange(1, len(truth.rles) + 1),
            areas=np.repeat(truth.areas[:, None], self.num_frames, axis=1),  # [N] -> [N,F]
            is_crowd=truth.is_crowd,
        )
