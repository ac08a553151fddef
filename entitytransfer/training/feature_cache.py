"""Feature cache: the features of a frozen backbone, computed once for each image, flip and view, kept on disk.

With the encoder out of the loop a small machine trains the decoders several times faster. Features are stored as
fp16 in memory-mapped files, one for each orientation, and filled in as training asks for them, so a resumed run
starts where the last one stopped. Targets stay in memory as packed bits.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from cropformer import CropType, Target, TrainingBatch, TrainingCrop, Views, fixed_places
from entitytransfer.adapter import Sample, labelled_masks
from entitytransfer.training.data import BuildTarget, cut_example
from entitytransfer.training.sampling import Group


class FeatureStore:
    """Rows of fp16 features of one canvas size, filled lazily, in a memory-mapped file.

    Args:
        path: file of the rows; a second file beside it remembers which rows are filled.
        rows: number of rows.
        shapes: {stride: (C_stride, h, w)} of one view.
    """

    def __init__(self, path: Path, *, rows: int, shapes: dict[int, tuple[int, int, int]]) -> None:
        self.shapes = shapes
        width = sum(int(np.prod(shape)) for shape in shapes.values())
        path.parent.mkdir(parents=True, exist_ok=True)
        self.filled = _memory_map(path.with_suffix(".filled"), (rows,), np.uint8)
        self.rows = _memory_map(path, (rows, width), np.float16)

    def put(self, row: int, features: dict[int, Tensor]) -> None:
        """Store the features of one view, {stride: [C_stride,h,w]}."""
        flat = torch.cat([features[stride].flatten() for stride in self.shapes])
        self.rows[row] = flat.half().numpy()
        self.filled[row] = 1

    def get(self, rows: Sequence[int]) -> dict[int, Tensor]:
        """Features of some views, {stride: [len(rows),C_stride,h,w]} in float32."""
        flat = torch.from_numpy(self.rows[list(rows)]).float()
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        parts = flat.split(sizes, dim=1)
        return {stride: part.unflatten(1, shape) for part, (stride, shape) in zip(parts, self.shapes.items())}


def _memory_map(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    fresh = not path.exists() or path.stat().st_size != size
    return np.memmap(path, dtype=dtype, mode="w+" if fresh else "r+", shape=shape)


@dataclass(frozen=True)
class PackedTarget:
    """A ``Target`` of all views with eight mask pixels in a byte: ``bits`` uint8 [N,T,H,ceil(W/8)], ``width`` W."""

    target: Target
    bits: np.ndarray
    width: int

    @classmethod
    def pack(cls, target: Target) -> PackedTarget:
        """Pack the masks."""
        bits = np.packbits(target.masks.numpy(), axis=-1)
        return cls(replace(target, masks=target.masks[:0]), bits, target.masks.shape[-1])

    def unpack(self, views: Sequence[int]) -> Target:
        """The target of some of the views."""
        masks = np.unpackbits(self.bits[:, views], axis=-1, count=self.width).astype(bool)
        return replace(self.target, masks=torch.from_numpy(masks), valid=self.target.valid[:, views])


class CachedSamples(Dataset):
    """Training batches whose features come from the cache; drawn by the same sampler as ``TrainingSamples``.

    Args:
        samples: what to draw from.
        backbone: the frozen backbone.
        folder: where the cache lives; it belongs to this list of samples and this backbone.
        short_side: length of the short side of every view.
        max_side: bound on the long side; the canvas is ``short_side`` by ``max_side``, both divisible by 32.
        crops: crops that join the full view.
        crop_type: "fixed4" or "fixed8"; the features of all its places are kept.
        crop_ratio: side of a crop over the side of the image.
        build_target: what is learnt of a sample.

    Raises:
        InputError: if ``crop_type`` is not a fixed one.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        backbone: nn.Module,
        *,
        folder: Path,
        short_side: int,
        max_side: int,
        crops: int = 1,
        crop_type: CropType = "fixed4",
        crop_ratio: float = 0.7,
        build_target: BuildTarget = labelled_masks,
    ) -> None:
        self.samples, self.backbone, self.crops = samples, backbone.eval(), crops
        self.short_side, self.max_side, self.crop_ratio = short_side, max_side, crop_ratio
        self.options = {"build_target": build_target, "reduced_decode": False}  # made once, so exactly
        self.places = tuple(fixed_places(crop_type))
        self.views = 1 + len(self.places)  # kept of each image: the full one and a crop in every place
        self.targets: dict[int, PackedTarget] = {}
        self.stores = {
            canvas: FeatureStore(
                folder / f"features_{canvas[0]}x{canvas[1]}_{crop_type}_{crop_ratio}.bin",
                rows=2 * self.views * len(samples),
                shapes=self._shapes(canvas),
            )
            for canvas in ((short_side, max_side), (max_side, short_side))
        }

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def __getitem__(self, groups: Sequence[Group]) -> list[TrainingBatch]:
        """The batches of one process in one step; all images of a group have one orientation."""
        return [self._batch(group) for group in groups]

    def _batch(self, group: Group) -> TrainingBatch:
        rows, targets = [], []
        for index, seed in group.draws:
            generator = random.Random(seed)
            flip = generator.random() >= 0.5
            shown = [0, *(1 + i for i in generator.sample(range(len(self.places)), self.crops))]
            first = self._first_row(index, flip)
            targets.append(self.targets[first].unpack(shown))
            rows += [first + t for t in shown]
        numbers = [index for index, _ in group.draws]
        return TrainingBatch(
            _placeholder_views(len(numbers), 1 + self.crops),
            targets,
            self.stores[self._canvas(numbers[0])].get(rows),
            image_ids=tuple(self.samples[number].image_id for number in numbers),
            seed=group.seed,
            lost=sum(int((~target.valid.any(1)).sum()) for target in targets),
        )

    def _canvas(self, index: int) -> tuple[int, int]:
        height, width = self.samples[index].size_hw
        return (self.max_side, self.short_side) if height > width else (self.short_side, self.max_side)

    def _first_row(self, index: int, flip: bool) -> int:
        """Row of the full view of an image; computes all its views and its target if they are not there."""
        first, canvas = self.views * (2 * index + flip), self._canvas(index)
        store = self.stores[canvas]
        filled = bool(store.filled[first : first + self.views].all())
        if filled and first in self.targets:
            return first
        crop = TrainingCrop(self.short_side, self.max_side, flip, self.places, self.crop_ratio)
        sample = self.samples[index]
        views, target = cut_example(sample, crop.cuts(sample.size_hw), **self.options)
        self.targets[first] = PackedTarget.pack(target.padded(canvas))
        if not filled:
            right, below = canvas[1] - views.pixels.shape[-1], canvas[0] - views.pixels.shape[-2]
            with torch.inference_mode():
                features = self.backbone(nn.functional.pad(views.pixels[0], (0, right, 0, below)))
            for t in range(self.views):
                store.put(first + t, {stride: f[t] for stride, f in features.items()})
        return first

    def _shapes(self, canvas_hw: tuple[int, int]) -> dict[int, tuple[int, int, int]]:
        with torch.inference_mode():
            features = self.backbone(torch.zeros(1, 3, *canvas_hw))
        return {stride: tuple(f.shape[1:]) for stride, f in features.items()}


def _placeholder_views(batch: int, views: int) -> Views:
    """Views without pixels: the features stand in for them."""
    return Views(
        torch.zeros(batch, views, 3, 0, 0),
        torch.zeros(batch, views, 4, dtype=torch.int64),
        torch.zeros(batch, views, 2, dtype=torch.int64),
        torch.zeros(batch, 2, dtype=torch.int64),
        (0,) * views,
    )
