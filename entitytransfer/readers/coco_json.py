"""COCO-instance JSON: polygons, uncompressed and compressed RLE, all kept as RLE in an index that is made once."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from cropformer import Cut, InputError, cut_rles, rle
from entitytransfer.adapter import Sample
from entitytransfer.readers.annotation_index import AnnotationIndex, Texts, open_index
from entitytransfer.readers.json_file import read_json

_DAMAGED = "!"  # begins what stands in place of the counts of a damaged segmentation; no counts do
_NO_CATEGORY = -1


@dataclass(frozen=True)
class CocoInstances:
    """The encoded instances of one image; `source` and `ids` are there to say where an error is.

    Attributes:
        source: the annotation file.
        size_hw: size of the image.
        ids: their annotation ids, as JSON.
        counts: their compressed COCO counts.
        class_labels: their classes.
    """

    source: Path
    size_hw: tuple[int, int]
    ids: Texts
    counts: Texts
    class_labels: tuple[int, ...]

    def masks(self) -> np.ndarray:
        """Decode every instance: bool [N,H,W].

        Raises:
            InputError: a segmentation is damaged or belongs to an image of another size.
        """
        masks = np.zeros((len(self.ids), *self.size_hw), dtype=bool)
        for mask, encoded in zip(masks, self.rles()):
            mask[:] = rle.decode(encoded)
        return masks

    def rles(self) -> list[rle.RLE]:
        """Return the instances as compressed COCO RLE. Raises InputError as `masks` does."""
        return [self._checked(*pair) for pair in zip(self.ids, self.counts)]

    def cut(self, cut: Cut) -> np.ndarray:
        """Cut what a view shows of the instances out of their runs: bool [N,h,w]. Raises InputError as `masks` does."""
        try:
            return cut_rles([self._encoded(counts) for counts in self.counts], cut)
        except InputError:
            self.rles()  # says which annotation it is
            raise

    def labels(self) -> np.ndarray:
        """Return one class label per instance: int64 [N]."""
        return np.asarray(self.class_labels, dtype=np.int64)

    def _checked(self, annotation_id: str, counts: str) -> rle.RLE:
        encoded = self._encoded(counts)
        try:
            if counts.startswith(_DAMAGED):
                raise InputError(counts.removeprefix(_DAMAGED))
            rle.runs(encoded)
        except InputError as error:
            raise InputError(f"{self.source}, annotation {annotation_id}: {error}") from error
        return encoded

    def _encoded(self, counts: str) -> rle.RLE:
        return {"size": list(self.size_hw), "counts": counts}


@dataclass(frozen=True, eq=False)
class CocoSamples(Sequence[Sample]):
    """The images of an annotation file, in its order, each a `Sample` when it is asked for.

    Attributes:
        source: the annotation file.
        locate: where an image is, from its ``file_name``.
        annotations: what the file says.
        exhaustive: whether every region of every image is annotated.
        label_of: category id → class label; None makes every instance class 0.
    """

    source: Path
    locate: Callable[[str], Path]
    annotations: AnnotationIndex
    exhaustive: bool
    label_of: Mapping[int, int] | None

    @property
    def sizes_hw(self) -> np.ndarray:
        """Height and width of every image, int64 [images,2]."""
        return self.annotations.sizes_hw

    @property
    def entity_counts(self) -> np.ndarray:
        """Number of entities of every image, int64 [images]."""
        return np.diff(self.annotations.first)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.annotations.image_ids)

    @overload
    def __getitem__(self, number: int) -> Sample: ...

    @overload
    def __getitem__(self, number: slice) -> list[Sample]: ...

    def __getitem__(self, number: int | slice) -> Sample | list[Sample]:
        """One sample, or a list of some."""
        if isinstance(number, slice):
            return [self[i] for i in range(len(self))[number]]
        i = range(len(self))[number]
        index, own = self.annotations, slice(*self.annotations.first[i : i + 2].tolist())
        size_hw = tuple(index.sizes_hw[i].tolist())
        categories = index.category_ids[own].tolist()
        classes = tuple(0 if self.label_of is None else self.label_of[category] for category in categories)
        annotation = CocoInstances(self.source, size_hw, index.ids[own], index.counts[own], classes)
        image_id, image_path = json.loads(index.image_ids[i]), self.locate(index.file_names[i])
        return Sample(image_id, image_path, size_hw, annotation, self.exhaustive)


def encode_segmentation(segmentation: list | dict, size_hw: tuple[int, int]) -> rle.RLE:
    """Encode polygons, uncompressed or compressed RLE of an image of this size as compressed RLE.

    Everything else is checked here, because pycocotools answers damaged input with random masks or by eating all
    memory; whether compressed counts add up is left to whoever reads them.

    Raises:
        InputError: the segmentation is damaged or belongs to an image of another size.
    """
    if isinstance(segmentation, list):
        return encode_polygons(segmentation, size_hw)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise InputError("A segmentation must be a list of polygons or an RLE; correct or remove it.")
    size, counts = segmentation["size"], segmentation["counts"]
    if size != list(size_hw):
        raise InputError(f"The RLE has size {size} but its image {list(size_hw)}; correct it.")
    if isinstance(counts, list):
        return rle.from_runs(counts, size_hw)
    if not isinstance(counts, str):
        raise InputError("The counts of an RLE must be text or a list of runs; correct or remove it.")
    return {"size": size, "counts": counts}


def encode_polygons(polygons: list, size_hw: tuple[int, int]) -> rle.RLE:
    """Encode the union of checked polygons.

    Raises:
        InputError: a polygon is damaged, or none encloses anything.
    """
    try:
        points = [np.asarray(polygon, dtype=np.float64).reshape(-1, 2) for polygon in polygons]  # [P*2] -> [P,2]
    except (TypeError, ValueError) as error:
        raise InputError("A polygon must be a list of x, y pairs; correct or remove it.") from error
    # Two points enclose nothing, and pycocotools would read their four numbers as a box.
    points = [polygon for polygon in points if len(polygon) >= 3]
    if not points:
        raise InputError("A polygon must have at least three x, y pairs; correct or remove it.")
    if not all((np.abs(polygon) <= 2 * max(size_hw)).all() for polygon in points):
        raise InputError("A polygon lies far outside its image or is not finite; correct or remove it.")
    return rle.from_polygons(points, size_hw)


def read_coco(
    annotations: Path | str,
    image_root: Path | str | Callable[[str], Path],
    *,
    exhaustive: bool = False,
    label_of: Mapping[int, int] | None = None,
) -> Sequence[Sample]:
    """Open a COCO-instance file: one `Sample` per image, in file order; crowd annotations are dropped.

    The file is parsed when it is opened for the first time; see `annotation_index`.

    Args:
        annotations: the JSON file.
        image_root: the folder that the images' ``file_name`` is relative to, or a function that finds an image by it.
        exhaustive: whether every region of every image is annotated.
        label_of: category id → class label; None makes every instance class 0.

    Raises:
        InputError: the file is missing, not COCO-instance JSON, or contradicts itself.
    """
    path = Path(annotations)
    index = open_index(path, _build_index)
    unknown = [] if label_of is None else [c for c in np.unique(index.category_ids).tolist() if c not in label_of]
    if unknown:
        raise InputError(f"{path} has instances of category {unknown[0]}, which is none of the {len(label_of)} known.")
    return CocoSamples(path, as_locator(image_root), index, exhaustive, label_of)


def as_locator(root: Path | str | Callable[[str], Path]) -> Callable[[str], Path]:
    """Turn the folder that file names are relative to into the function that finds a file by its name."""
    return root if callable(root) else Path(root).joinpath


def read_categories(path: Path) -> list[int]:
    """Read the category ids that a COCO-instance file lists, ascending. Raises InputError as `read_coco` does."""
    return open_index(path, _build_index).listed_categories.tolist()


def listed_categories(content: Mapping[str, Any]) -> list[int]:
    """The category ids that a COCO-format file lists, ascending; none in a file without categories."""
    return sorted({category["id"] for category in content.get("categories", ())})


def load_json(path: Path, *, fields: tuple[str, ...]) -> dict:
    """Load a JSON object that has all of `fields`, or raise `InputError`."""
    content = read_json(path)
    missing = [field for field in fields if not isinstance(content, dict) or field not in content]
    if missing:
        raise InputError(f"{path} has no field '{missing[0]}'; check that it is a COCO-format annotation file.")
    return content


def _build_index(path: Path) -> AnnotationIndex:
    content = load_json(path, fields=("images", "annotations"))
    try:
        images = [_describe(image) for image in content["images"]]
        groups = _grouped(content["annotations"], images, path)
        entries = [entry for group in groups for entry in group]
        sizes_of_entries = (size_hw for (_, _, size_hw), group in zip(images, groups) for _ in group)
        return AnnotationIndex(
            sizes_hw=np.array([size_hw for _, _, size_hw in images], dtype=np.int64).reshape(-1, 2),
            first=np.cumsum([0, *map(len, groups)], dtype=np.int64),
            category_ids=np.array([entry.get("category_id", _NO_CATEGORY) for entry in entries], dtype=np.int64),
            listed_categories=np.array(listed_categories(content), dtype=np.int64),
            image_ids=Texts.pack(json.dumps(image_id) for image_id, _, _ in images),
            file_names=Texts.pack(name for _, name, _ in images),
            ids=Texts.pack(json.dumps(entry["id"]) for entry in entries),
            counts=Texts.pack(map(_counts, entries, sizes_of_entries)),
        )
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path} is not COCO-instance JSON, {error!r}; check the file's name.") from error


def _describe(image: dict) -> tuple[int | str, str, tuple[int, int]]:
    """Id, file name and size of an image."""
    size_hw = (int(image["height"]), int(image["width"]))
    return image["id"], image["file_name"], size_hw


def _grouped(entries: list[dict], images: Sequence[tuple], path: Path) -> list[list[dict]]:
    """The annotations of each image, without crowds."""
    of_image = defaultdict(list)
    for entry in entries:
        if not entry.get("iscrowd", 0):
            of_image[entry["image_id"]].append(entry)
    groups = [of_image.pop(image_id, []) for image_id, _, _ in images]
    if of_image:
        raise InputError(f"{path} annotates image {next(iter(of_image))} but does not list it; add it.")
    return groups


def _counts(entry: dict, size_hw: tuple[int, int]) -> str:
    """The compressed counts, or what is wrong with the segmentation: it is raised when its image is read."""
    try:
        return encode_segmentation(entry["segmentation"], size_hw)["counts"]
    except InputError as error:
        return f"{_DAMAGED}{error}"
