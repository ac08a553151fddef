"""Training data: samples to views and targets, mixed from several sets, batched by orientation.

Frozen backbones can have their features kept on disk: see ``feature_cache``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from torch.utils.data import Dataset

from cropformer import (
    CropType,
    Target,
    TrainingBatch,
    TrainingCrop,
    Views,
    batch_views,
    draw_training_crop,
    make_views,
    training_views,
)
from entitytransfer.adapter import Sample


class TrainingSamples(Dataset):
    """Samples as (views, target) with fresh random choices each time.

    Args:
        samples: what to draw from.
        short_sides: lengths to choose the short side from.
        max_side: bound on the long side.
        crops: crops that join the full view.
        crop_type: where they lie: "random", "fixed4" or "fixed8".
        crop_ratio: side of a crop over the side of the image.

    Raises:
        InputError: if an image cannot have such crops.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        short_sides: Sequence[int],
        max_side: int,
        crops: int = 1,
        crop_type: CropType = "fixed4",
        crop_ratio: float = 0.7,
    ) -> None:
        self.samples = samples
        self.draw = partial(
            draw_training_crop,
            short_sides=tuple(short_sides),
            max_side=max_side,
            crops=crops,
            crop_type=crop_type,
            ratio=crop_ratio,
        )
        self.draw(generator=random.Random(0))  # what makes no sense is said here, not in a loader process

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def __getitem__(self, draw: tuple[int, int]) -> tuple[Views, Target]:
        """One training example; ``draw`` is (sample index, seed of its random choices)."""
        index, seed = draw
        return cut_training_views(self.samples[index], self.draw(generator=random.Random(seed)))


def cut_training_views(sample: Sample, crop: TrainingCrop) -> tuple[Views, Target]:
    """Decode a sample and apply the random choices; masks without a pixel are dropped."""
    masks, labels = sample.entity_masks(), sample.labels()
    shown = masks.any(axis=(1, 2))
    return training_views(sample.read_frame(), masks[shown], crop, labels=labels[shown], exhaustive=sample.exhaustive)


def collate(items: Sequence[tuple[Views, Target]]) -> TrainingBatch:
    """Join examples to a batch on one canvas."""
    views = batch_views([item for item, _ in items])
    canvas_hw = (views.pixels.shape[-2], views.pixels.shape[-1])
    return TrainingBatch(views, [target.padded(canvas_hw) for _, target in items])


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
