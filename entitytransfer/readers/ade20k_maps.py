"""The raw maps of ADE20K, a semantic and an instance PNG for each photo, and the regions that the tasks make of them.

As in the official conversion, first every stuff class is painted, one segment each, connected or not; then every
instance over it. What is of a countable class but of no instance stays unlabelled. H, W image pixels · N regions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cropformer import Cut, InputError, cut_masks, rle
from entitytransfer.adapter import Truth
from entitytransfer.readers.ade20k_classes import NUM_CLASSES, NUM_THINGS, categories, task_classes, things
from entitytransfer.readers.label_map import LabelRegions
from entitytransfer.readers.label_png import read_pixels

IGNORED = 255
"""What no label is, in a semantic map whose labels run from 0."""

RAW_VALUES = {"classes": NUM_CLASSES, "ignored": 0, "first": 1}
"""What the values of a raw semantic map mean, as arguments of ``LabelRegions``."""

_NUMBERS = 256  # an instance map has a byte for the class and one for the number of an instance


@dataclass(frozen=True)
class Segment:
    """A region as it was painted: others may have been painted over it since.

    Attributes:
        category_id: 0 to 149.
        mask: bool [H,W].
    """

    category_id: int
    mask: np.ndarray


@dataclass(frozen=True)
class Regions:
    """Regions that are left of N painted segments.

    Attributes:
        id_map: int32 [H,W], 0 = none, i + 1 = region i.
        category_ids: int64 [N].
        areas: float64 [N], in pixels, when the segment was painted.
    """

    id_map: np.ndarray
    category_ids: np.ndarray
    areas: np.ndarray

    def visible(self) -> "Regions":
        """Only those of which a pixel is left, with the area that is left."""
        pixels = np.bincount(self.id_map.reshape(-1), minlength=len(self.areas) + 1)[1:]  # [H,W] -> [HW]
        kept = np.flatnonzero(pixels)
        numbers = np.zeros(len(pixels) + 1, dtype=np.int32)
        numbers[kept + 1] = np.arange(1, len(kept) + 1)
        return Regions(numbers[self.id_map], self.category_ids[kept], pixels[kept].astype(np.float64))


@dataclass(frozen=True)
class RawMaps:
    """The two maps of a photo.

    Attributes:
        semantic_path: uint8, 0 = ignored, else 1 + category id.
        instance_path: RGB, of which R is a class from 1 to 100 and G the number of an instance from 1, 0 = none.
        size_hw: size of the photo.
    """

    semantic_path: Path
    instance_path: Path
    size_hw: tuple[int, int]

    def semantic(self) -> np.ndarray:
        """Category ids, uint8 [H,W], and 255 where ignored. Raises InputError as ``LabelRegions.label_map`` does."""
        return LabelRegions(self.semantic_path, self.size_hw, **RAW_VALUES).label_map()

    def instances(self) -> np.ndarray:
        """Class and number of the instance of each pixel, uint8 [H,W,2].

        Raises:
            InputError: the map cannot be read, is not RGB, has another size, or holds a class that there is not.
        """
        pixels, mode = read_pixels(self.instance_path)
        if mode != "RGB":
            raise InputError(f"{self.instance_path} has the mode {mode}, but an instance map is RGB; check its path.")
        if pixels.shape[:2] != self.size_hw:
            raise InputError(
                f"{self.instance_path} has height and width {pixels.shape[:2]} but its image {self.size_hw}; "
                "put back the original PNG."
            )
        if pixels[..., 0].max() > NUM_THINGS:
            raise InputError(
                f"{self.instance_path} holds the class {pixels[..., 0].max()}, but instances are of the classes 1 to "
                f"{NUM_THINGS}; put back the original PNG."
            )
        return pixels[..., :2]

    def paint_instances(self) -> Iterator[Segment]:
        """Every instance in the order of its number. Raises InputError as `instances` does."""
        classes, numbers = np.moveaxis(self.instances().astype(np.int32), -1, 0)  # [H,W,2] -> [2,H,W]
        keys = numbers * _NUMBERS + classes
        for key in _present(keys):
            number, instance_class = divmod(key, _NUMBERS)
            if number and instance_class:
                yield Segment(things()[instance_class - 1].category_id, keys == key)

    def paint_segments(self) -> Iterator[Segment]:
        """Every stuff class by its id, then every instance. Raises InputError as `semantic` and `instances` do."""
        labels = self.semantic()
        for category_id in _present(labels):
            if category_id != IGNORED and not categories()[category_id].instance_class:
                yield Segment(category_id, labels == category_id)
        yield from self.paint_instances()


@dataclass(frozen=True)
class RawSegments:
    """The regions of one photo in the "panoptic", "instance" or "entity" task, made of its raw maps when asked for."""

    maps: RawMaps
    task: str

    def masks(self) -> np.ndarray:
        """Every region: bool [N,H,W]. Raises InputError as ``RawMaps.instances`` does."""
        return self._masks_of(lambda id_map: id_map)

    def rles(self) -> list[rle.RLE]:
        """Compressed COCO RLE of every region. Raises InputError as `masks` does."""
        return self.truth().rles

    def cut(self, cut: Cut) -> np.ndarray:
        """Return what a view shows of the regions: bool [N,h,w]. Raises InputError as `masks` does."""
        return self._masks_of(lambda id_map: cut_masks(id_map[None], cut)[0])  # [H,W] -> [1,H,W] -> [1,h,w] -> [h,w]

    def labels(self) -> np.ndarray:
        """Return one class label per region: int64 [N]. Raises InputError as `masks` does."""
        return self._labels(self._regions())

    def truth(self) -> Truth:
        """Return every region, with or without pixels. Raises InputError as `masks` does."""
        regions = self._regions()
        rles = rle.encode_id_map(regions.id_map, np.arange(1, len(regions.areas) + 1))
        return Truth(rles, self._labels(regions), regions.areas, np.zeros(len(rles), dtype=bool))

    def _regions(self) -> Regions:
        segments = self.maps.paint_instances() if self.task == "instance" else self.maps.paint_segments()
        regions = paint(segments, self.maps.size_hw)
        return regions.visible() if self.task == "entity" else regions

    def _masks_of(self, part: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        regions = self._regions()
        numbers = np.arange(1, len(regions.areas) + 1)
        return part(regions.id_map)[None] == numbers[:, None, None]  # [1,h,w] == [N,1,1] -> [N,h,w]

    def _labels(self, regions: Regions) -> np.ndarray:
        if self.task == "entity":
            return np.zeros(len(regions.areas), dtype=np.int64)
        return np.searchsorted(task_classes(self.task).category_ids, regions.category_ids)


def paint(segments: Iterator[Segment], size_hw: tuple[int, int]) -> Regions:
    """What is left of segments that are painted one after the other on an empty map."""
    id_map = np.zeros(size_hw, dtype=np.int32)
    category_ids, areas = [], []
    for number, segment in enumerate(segments, start=1):
        id_map[segment.mask] = number
        category_ids.append(segment.category_id)
        areas.append(np.count_nonzero(segment.mask))
    return Regions(id_map, np.array(category_ids, dtype=np.int64), np.array(areas, dtype=np.float64))


def _present(values: np.ndarray) -> list[int]:
    """The small numbers that a map [H,W] holds, ascending."""
    return np.flatnonzero(np.bincount(values.reshape(-1))).tolist()  # [H,W] -> [HW]
