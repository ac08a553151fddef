"""Training data of clips: a few frames of each, as views that share their random choices and their tracks.

Legend: F frames of a draw · T views, those of the first frame before those of the second · N tracks · h, w pixels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cropformer import Cut, InputError, Target, Views, join_cuts, rle
from entitytransfer.adapter import LabelledMasks, Sample
from entitytransfer.clip_sample import ClipSample, PseudoClip, labelled_tracks
from entitytransfer.training.augmentations import Augmentation
from entitytransfer.training.data import Recolor, TrainingSamples, sees_all, shown_masks

BuildClipTarget = Callable[[ClipSample, Sequence[Cut], Sequence[int]], LabelledMasks]


@dataclass(frozen=True)
class ClipFrames:
    """Which frames of a clip a step sees: a reference frame, and others near it.

    The reference is one of all annotated frames, the others are drawn with replacement from those around it. Where
    there are none, as in a clip of one frame, the reference stands in for them.
    (Sampling: Mask2Former for videos, Cheng et al. 2021, which knows clips of several frames only.)

    Attributes:
        frames: F, the reference included.
        range: how many frames of the clip the others are before or after the reference, at most.

    Raises:
        InputError: there are no such frames.
    """

    frames: int = 2
    range: int = 20

    def __post_init__(self) -> None:
        """Refuse what shows nothing."""
        if self.frames < 1 or self.range < 0:
            raise InputError(
                f"no {self.frames} frames of a clip lie within {self.range} of one another; give data.clip.frames of 1 "
                "or more, and data.clip.range of 0 or more"
            )

    def draw(self, clip: ClipSample, generator: random.Random) -> tuple[int, ...]:
        """F numbers of frames of a clip, in ascending order.

        Raises:
            InputError: none of its frames is annotated.
        """
        annotated = range(len(clip.frame_paths)) if clip.annotated is None else clip.annotated
        if not annotated:
            raise InputError(f"clip {clip.clip_id} has no annotated frame to train on; leave it out of the set")
        reference = generator.choice(annotated)
        near = [frame for frame in annotated if frame != reference and abs(frame - reference) <= self.range]
        others = generator.choices(near or [reference], k=self.frames - 1)
        return tuple(sorted([reference, *others]))


class TrainingClips(TrainingSamples):
    """Clips as training batches, as `TrainingSamples` has images; an image among them is a clip of equal frames.

    Args:
        samples: clips, and images.
        augmentation: the random choices for what is shown, the same in all frames of a clip.
        frames: which frames are shown.
        build_target: what is learnt of a clip.
        reduced_decode: see `TrainingSamples`.
    """

    def __init__(
        self,
        samples: Sequence[Sample | ClipSample],
        augmentation: Augmentation,
        *,
        frames: ClipFrames,
        build_target: BuildClipTarget = labelled_tracks,
        reduced_decode: bool = True,
    ) -> None:
        super().__init__(samples, augmentation, build_target=build_target, reduced_decode=reduced_decode)
        self.frames = frames

    def _example(self, sample: Sample | ClipSample, seed: int) -> tuple[Views, Target]:
        generator = random.Random(seed)
        clip = sample if isinstance(sample, ClipSample) else PseudoClip(sample, self.frames.frames)
        frames = self.frames.draw(clip, generator)
        cuts = self.augmentation.cuts(_Frame(clip, frames[0]), generator)
        recolor = partial(self.augmentation.recolor, generator=generator)
        return cut_clip_example(clip, frames, cuts, recolor=recolor, **self.options)


def cut_clip_example(
    clip: ClipSample,
    frames: Sequence[int],
    cuts: Sequence[Cut],
    *,
    build_target: BuildClipTarget = labelled_tracks,
    recolor: Recolor | None = None,
    reduced_decode: bool = True,
) -> tuple[Views, Target]:
    """Views and target of a clip; tracks without a pixel in what is shown are dropped, unless resizing took it.

    Args:
        clip: the clip.
        frames: F of its frames; the views number them from 0.
        cuts: what is shown of each.
        build_target: what is learnt of the clip in the views.
        recolor: changes the colours of the views, uint8 RGB [h,w,3] each.
        reduced_decode: see `TrainingSamples`.

    Raises:
        InputError: a frame or the annotation cannot be read.
    """
    shown, origins = list(cuts) * len(frames), [frame for frame in frames for _ in cuts]
    pixels = _read(clip, frames, cuts, reduced=reduced_decode)
    target = build_target(clip, shown, origins)
    in_view = partial(_in_view, clip, shown, origins) if build_target is labelled_tracks else None
    kept = shown_masks(target, in_view)
    return join_cuts(
        shown,
        pixels if recolor is None else recolor(pixels),
        kept.masks,
        image_size_hw=clip.size_hw,
        labels=kept.labels,
        exhaustive=clip.exhaustive,
        frames=tuple(number for number in range(len(frames)) for _ in cuts),
    )


@dataclass(frozen=True)
class _Frame:
    """One frame of a clip as far as an augmentation looks at it; for the others of a draw it decides as well."""

    clip: ClipSample
    index: int

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.clip.size_hw

    def cut_masks(self, cuts: Sequence[Cut]) -> list[np.ndarray]:
        return self.clip.cut_masks(self.index, cuts)


def _read(clip: ClipSample, frames: Sequence[int], cuts: Sequence[Cut], *, reduced: bool) -> list[np.ndarray]:
    """The views of the frames, T of them; a file that several frames show is decoded once."""
    first = {clip.frame_paths[frame]: frame for frame in frames}
    views = {path: clip.read_views(frame, cuts, reduced=reduced) for path, frame in first.items()}
    return [view for frame in frames for view in views[clip.frame_paths[frame]]]


def _in_view(clip: ClipSample, cuts: Sequence[Cut], frames: Sequence[int], found: np.ndarray) -> np.ndarray:
    """Which tracks have pixels in what is shown before it is resized, bool [N]; see `training.data`."""
    whole = {frame for cut, frame in zip(cuts, frames) if sees_all(cut, clip.size_hw)}
    for rles in map(clip.frame_rles, whole):
        for i in np.flatnonzero(~found):
            found[i] = rles[i] is not None and rle.area(rles[i]) > 0
    return found
