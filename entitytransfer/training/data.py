"""Training data: groups of samples to batches of views and targets, nothing of them decoded at full size.

Frozen backbones can have their features kept on disk: see ``training.feature_cache``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from torch.utils.data import Dataset

from cropformer import Cut, Target, TrainingBatch, Views, batch_views, join_cuts, make_views, rle, with_pixels
from entitytransfer.adapter import LabelledMasks, Sample, labelled_masks
from entitytransfer.clip_sample import ClipSample, sample_id
from entitytransfer.training.augmentations import Augmentation
from entitytransfer.training.sampling import Group

Recolor = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
BuildTarget = Callable[[Sample, Sequence[Cut]], LabelledMasks]


class TrainingSamples(Dataset):
    """Samples as training batches, one for each group of a step, with fresh random choices each time.

    Args:
        samples: what to draw from.
        augmentation: the random choices.
        build_target: what is learnt of a sample.
        reduced_decode: decode a JPEG at a fraction of its size where every view is smaller still, a departure from
            the published pipeline that changes pixels by less than one level on average; see `cropformer.read_reduced`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        augmentation: Augmentation,
        *,
        build_target: BuildTarget = labelled_masks,
        reduced_decode: bool = True,
    ) -> None:
        self.samples, self.augmentation = samples, augmentation
        self.options = {"build_target": build_target, "reduced_decode": reduced_decode}

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def __getitem__(self, groups: Sequence[Group]) -> list[TrainingBatch]:
        """The batches of one process in one step.

        Raises:
            InputError: an image or an annotation cannot be read.
        """
        return [self._batch(group) for group in groups]

    def _batch(self, group: Group) -> TrainingBatch:
        samples = [self.samples[index] for index, _ in group.draws]
        examples = [self._example(sample, seed) for sample, (_, seed) in zip(samples, group.draws)]
        return collate(samples, examples, seed=group.seed, canvas_side=self.augmentation.canvas_side)

    def _example(self, sample: Sample, seed: int) -> tuple[Views, Target]:
        generator = random.Random(seed)
        cuts = self.augmentation.cuts(sample, generator)
        recolor = partial(self.augmentation.recolor, generator=generator)
        return cut_example(sample, cuts, recolor=recolor, **self.options)


def cut_example(
    sample: Sample,
    cuts: Sequence[Cut],
    *,
    build_target: BuildTarget = labelled_masks,
    recolor: Recolor | None = None,
    reduced_decode: bool = True,
) -> tuple[Views, Target]:
    """Views and target of a sample; masks without a pixel in what is shown are dropped, unless resizing took it.

    Args:
        sample: the sample.
        cuts: its views.
        build_target: what is learnt of the sample in them.
        recolor: changes the colours of the views, uint8 RGB [h,w,3] each.
        reduced_decode: see ``TrainingSamples``.

    Raises:
        InputError: the image or its annotation cannot be read.
    """
    pixels = sample.read_views(cuts, reduced=reduced_decode)
    pixels = pixels if recolor is None else recolor(pixels)
    target = build_target(sample, cuts)
    kept = shown_masks(target, partial(_in_view, sample, cuts) if build_target is labelled_masks else None)
    return join_cuts(
        cuts, pixels, kept.masks, image_size_hw=sample.size_hw, labels=kept.labels, exhaustive=sample.exhaustive
    )


def shown_masks(target: LabelledMasks, in_view: Callable[[np.ndarray], np.ndarray] | None = None) -> LabelledMasks:
    """The masks of a target that have a pixel in a view at least.

    Args:
        target: of one sample.
        in_view: from which of them do, bool [N], to which of them did before the views were resized; None = the same.
    """
    found = np.logical_or.reduce([with_pixels(view) for view in target.masks])
    kept = found if in_view is None else in_view(found)
    return target if kept.all() else LabelledMasks([view[kept] for view in target.masks], target.labels[kept])


def sees_all(cut: Cut, size_hw: tuple[int, int]) -> bool:
    """Whether a view shows the whole image of this size."""
    height, width = size_hw
    return cut.shown_xyxy(image_width=width) == (0, 0, width, height)


def _in_view(sample: Sample, cuts: Sequence[Cut], found: np.ndarray) -> np.ndarray:
    """Which entities have pixels in what is shown before it is resized, bool [N]; ``found`` are those that still do.

    The annotation is asked only where a view of the whole image lacks an entity: resizing may have taken its pixels.
    """
    if not found.all() and any(sees_all(cut, sample.size_hw) for cut in cuts):
        rles = sample.entity_rles()
        for i in np.flatnonzero(~found):
            found[i] = rle.area(rles[i]) > 0
    return found


def collate(
    samples: Sequence[Sample | ClipSample],
    examples: Sequence[tuple[Views, Target]],
    *,
    seed: int = 0,
    canvas_side: int | None = None,
) -> TrainingBatch:
    """Join examples to a batch on one canvas.

    Args:
        samples: where each comes from.
        examples: views and target of each.
        seed: of the random numbers that the step draws for them.
        canvas_side: side of a square canvas; None takes the smallest that fits.
    """
    views = batch_views([views for views, _ in examples], side=canvas_side)
    canvas_hw = (views.pixels.shape[-2], views.pixels.shape[-1])
    return TrainingBatch(
        views,
        [target.padded(canvas_hw) for _, target in examples],
        image_ids=tuple(map(sample_id, samples)),
        seed=seed,
        lost=sum(_lost(views, target) for views, target in examples),
    )


def _lost(views: Views, target: Target) -> int:
    """Entities that a view of the whole image does not show, having become too small.

    Without such a view an entity may as well lie outside what is shown, which is no loss.
    """
    height, width = views.image_sizes_hw[0].tolist()
    has_whole = [0, 0, width, height] in views.boxes_xyxy[0].tolist()
    return int((~target.valid.any(1)).sum()) if has_whole else 0


class ValidationSamples(Dataset):
    """Samples as (views, sample) for evaluation.

    Args:
        samples: what to evaluate on.
        short_side: test size.
        max_side: bound on the long side.
        crops: crops at test time.
        crop_ratio: side of a crop over the side of the image.
    """

    def __init__(
        self, samples: Sequence[Sample], *, short_side: int, max_side: int, crops: int, crop_ratio: float = 0.7
    ) -> None:
        self.samples = samples
        self.make_views = partial(
            make_views, crops=crops, short_side=short_side, max_side=max_side, crop_ratio=crop_ratio
        )

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Views, list[Sample]]:
        """One sample as a batch of one."""
        sample = self.samples[index]
        return self.make_views(sample.read_frame()), [sample]
