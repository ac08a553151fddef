"""Ground truth and predictions in the terms of COCO, in memory: one class of them, the best of them, a part of them.

I images.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cropformer import rle

ONE_CLASS = 1
OVERLAP = ("keep", "remove")
_PART_RECORDS = 2**11  # that an evaluator sees at once


@dataclass(frozen=True)
class CocoSet:
    """Ground truth and predictions of a set of images: the terms of COCO, with numbers for all ids.

    Attributes:
        images: id, height and width, in ascending order of the ids.
        categories: id and more, numbered from 1.
        truths: image_id, category_id, iscrowd, area and segmentation, a compressed RLE.
        results: image_id, category_id, score, area (pixels of the mask) and segmentation.
    """

    images: list[dict]
    categories: list[dict]
    truths: list[dict]
    results: list[dict]

    def parts(self) -> Iterator["CocoSet"]:
        """The same set a few images at a time, in their order."""
        places = {image["id"]: place for place, image in enumerate(self.images)}
        truths, results = (_by_place(many, places) for many in (self.truths, self.results))
        sizes = [len(truths[place]) + len(results[place]) for place in range(len(self.images))]
        for first, last in split_ranges(np.array(sizes, dtype=np.int64), _PART_RECORDS):
            some = range(first, last)
            of_part = ([one for place in some for one in many[place]] for many in (truths, results))
            yield CocoSet(self.images[first:last], self.categories, *of_part)

    def as_one_class(self) -> "CocoSet":
        """Every annotation and prediction in one class, in their own order."""
        truths, results = ([one | {"category_id": ONE_CLASS} for one in many] for many in (self.truths, self.results))
        return replace(self, categories=[{"id": ONE_CLASS, "name": "object"}], truths=truths, results=results)

    def sorted_by_class(self) -> "CocoSet":
        """In the order in which COCOeval takes records without regard to classes (``useCats=0``): it breaks ties."""
        truths, results = (sorted(many, key=lambda one: one["category_id"]) for many in (self.truths, self.results))
        return replace(self, truths=truths, results=results)

    def best(self, top_k: int | None) -> "CocoSet":
        """Only the ``top_k`` best predictions of every image, of equal ones the first; None = all."""
        if top_k is None:
            return self
        kept = [index for indices in self._best_first().values() for index in indices[:top_k]]
        return replace(self, results=[self.results[index] for index in sorted(kept)])

    def without_overlap(self) -> "CocoSet":
        """Of predictions that share pixels only the one with the best score keeps them; of equal ones the first."""
        sizes_hw = {image["id"]: (image["height"], image["width"]) for image in self.images}
        results = list(self.results)
        for image_id, indices in self._best_first().items():
            id_map = rle.decode_id_map([results[index]["segmentation"] for index in indices], sizes_hw[image_id])
            for index, visible in zip(indices, rle.encode_id_map(id_map, np.arange(1, len(indices) + 1))):
                results[index] = results[index] | {"segmentation": visible, "area": rle.area(visible)}
        return replace(self, results=results)

    def _best_first(self) -> dict[int, list[int]]:
        """The indices of the predictions of each image by their scores, of equal ones the first."""
        found: dict[int, list[int]] = defaultdict(list)
        for index in sorted(range(len(self.results)), key=lambda index: -self.results[index]["score"]):
            found[self.results[index]["image_id"]].append(index)
        return found


def split_ranges(sizes: np.ndarray, limit: int) -> list[tuple[int, int]]:
    """Ranges, from first to before last, of neighbours whose sizes [N] together are about the limit."""
    bounds = np.flatnonzero(np.diff(np.cumsum(sizes) // limit, prepend=-1, append=-1))
    return list(zip(bounds[:-1].tolist(), bounds[1:].tolist()))


def _by_place(records: Sequence[dict], places: Mapping[int, int]) -> list[list[dict]]:
    """The records of each image, which has a place in the list of all of them."""
    found: list[list[dict]] = [[] for _ in places]
    for one in records:
        found[places[one["image_id"]]].append(one)
    return found
