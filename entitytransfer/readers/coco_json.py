"""COCO-instance JSON: polygons, uncompressed and compressed RLE, all kept as RLE in an index that is made once."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from cropformer import Cut, InputError, cut_rles, rle
from entitytransfer.adapter import Sample, Truth
from entitytransfer.classes import Classes
from entitytransfer.readers.annotation_index import AnnotationIndex, Texts, open_index
from entitytransfer.readers.json_file import check_fields, read_json
from entitytransfer.readers.segmentations import encode_segmentation

_DAMAGED = "!"  # begins what stands in place of the counts of a damaged segmentation; no counts do
_NO_CATEGORY = -1


@dataclass(frozen=True)
class CocoInstances:
    """The encoded annotations of one image: its instances and, last, its crowds, which only metrics look at.

    Attributes:
        source: the annotation file; like the ids it is there to say where an error is.
        size_hw: size of the image.
        ids: annotation ids, as JSON.
        counts: compressed COCO counts.
        class_labels: classes.
        areas: in pixels, as the file states them.
        crowds: how many of the annotations are crowds.
    """

    source: Path
    size_hw: tuple[int, int]
    ids: Texts
    counts: Texts
    class_labels: tuple[int, ...]
    areas: tuple[float, ...]
    crowds: int = 0

    def masks(self) -> np.ndarray:
        """Decode every instance: bool [N,H,W].

        Raises:
            InputError: a segmentation is damaged or belongs to an image of another size.
        """
        rles = self.rles()
        masks = np.zeros((len(rles), *self.size_hw), dtype=bool)
        for mask, encoded in zip(masks, rles):
            mask[:] = rle.decode(encoded)
        return masks

    def rles(self) -> list[rle.RLE]:
        """Return the instances as compressed COCO RLE. Raises InputError as `masks` does."""
        return [self._checked(*pair) for pair in zip(self.ids[self._instances], self.counts)]

    def cut(self, cut: Cut) -> np.ndarray:
        """Cut what a view shows of the instances out of their runs: bool [N,h,w]. Raises InputError as `masks` does."""
        try:
            return cut_rles([self._encoded(counts) for counts in self.counts[self._instances]], cut)
        except InputError:
            self.rles()  # says which annotation it is
            raise

    def labels(self) -> np.ndarray:
        """Return one class label per instance: int64 [N]."""
        return np.asarray(self.class_labels[self._instances], dtype=np.int64)

    def truth(self) -> Truth:
        """Return the instances and the crowds. Raises InputError as `masks` does."""
        return Truth(
            rles=[self._checked(*pair) for pair in zip(self.ids, self.counts)],
            labels=np.asarray(self.class_labels, dtype=np.int64),
            areas=np.asarray(self.areas, dtype=np.float64),
            is_crowd=np.arange(len(self.ids)) >= self._instances.stop,
        )

    @property
    def _instances(self) -> slice:
        return slice(len(self.ids) - self.crowds)

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
        return np.diff(self.annotations.first) - self.annotations.crowds

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
        encoded = (index.ids[own], index.counts[own], classes, tuple(index.areas[own].tolist()))
        annotation = CocoInstances(self.source, size_hw, *encoded, crowds=int(index.crowds[i]))
        image_id, image_path = json.loads(index.image_ids[i]), self.locate(index.file_names[i])
        return Sample(image_id, image_path, size_hw, annotation, self.exhaustive)


def read_coco(
    annotations: Path | str,
    image_root: Path | str | Callable[[str], Path],
    *,
    exhaustive: bool = False,
    label_of: Mapping[int, int] | None = None,
) -> Sequence[Sample]:
    """Open a COCO-instance file: one `Sample` per image, in file order; crowds are in its truth alone.

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
    index = open_index(path, _build_index, AnnotationIndex)
    unknown = [] if label_of is None else [c for c in np.unique(index.category_ids).tolist() if c not in label_of]
    if unknown:
        raise InputError(f"{path} has instances of category {unknown[0]}, which is none of the {len(label_of)} known.")
    return CocoSamples(path, as_locator(image_root), index, exhaustive, label_of)


def as_locator(root: Path | str | Callable[[str], Path]) -> Callable[[str], Path]:
    """Turn the folder that file names are relative to into the function that finds a file by its name."""
    return root if callable(root) else Path(root).joinpath


def read_classes(annotations: Path | str) -> Classes:
    """Read the categories that a COCO-instance file lists. Raises InputError as `read_coco` does."""
    index = open_index(Path(annotations), _build_index, AnnotationIndex)
    ids, things = index.listed_categories.tolist(), index.listed_things.tolist()
    return Classes(tuple(index.category_names), tuple(ids), tuple(things))


def listed_classes(content: Mapping[str, Any]) -> Classes:
    """The categories that a COCO-format file lists, by ascending id as in detectron2; none in a file without them.

    A category without a name is called by its id. One is a thing unless it says ``"isthing": 0`` as COCO does, or
    ``"type": "stuff"`` as EntitySeg does.
    """
    listed = {category["id"]: category for category in content.get("categories", ())}
    ids = sorted(listed)
    return Classes(
        names=tuple(str(listed[one].get("name", one)) for one in ids),
        category_ids=tuple(ids),
        is_thing=tuple(bool(listed[one].get("isthing", listed[one].get("type") != "stuff")) for one in ids),
    )


def file_name(image: Mapping[str, Any]) -> str:
    """What a COCO-format file calls an image; LVIS says it only at the end of ``coco_url``: folder and name."""
    if "file_name" in image or "coco_url" not in image:
        return image["file_name"]
    return "/".join(image["coco_url"].split("/")[-2:])


def load_json(path: Path, *, fields: tuple[str, ...]) -> dict:
    """Load a JSON object that has all of `fields`, or raise `InputError`."""
    content = read_json(path)
    check_fields(content, fields, path=path)
    return content


def _build_index(path: Path) -> AnnotationIndex:
    content = load_json(path, fields=("images", "annotations"))
    try:
        images = [_describe(image) for image in content["images"]]
        groups = _grouped(content["annotations"], images, path)
        entries = [entry for group in groups for entry in group]
        sizes_hw = [size_hw for (_, _, size_hw), group in zip(images, groups) for _ in group]
        counts = list(map(_counts, entries, sizes_hw))
        classes = listed_classes(content)
        return AnnotationIndex(
            sizes_hw=np.array([size_hw for _, _, size_hw in images], dtype=np.int64).reshape(-1, 2),
            first=np.cumsum([0, *map(len, groups)], dtype=np.int64),
            crowds=np.array([sum(map(_is_crowd, group)) for group in groups], dtype=np.int64),
            category_ids=np.array([entry.get("category_id", _NO_CATEGORY) for entry in entries], dtype=np.int64),
            areas=np.array(list(map(_area, entries, sizes_hw, counts)), dtype=np.float64),
            listed_categories=np.array(classes.category_ids, dtype=np.int64),
            listed_things=np.array(classes.is_thing, dtype=bool),
            category_names=Texts.pack(classes.names),
            image_ids=Texts.pack(json.dumps(image_id) for image_id, _, _ in images),
            file_names=Texts.pack(name for _, name, _ in images),
            ids=Texts.pack(json.dumps(entry["id"]) for entry in entries),
            counts=Texts.pack(counts),
        )
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path} is not COCO-instance JSON, {error!r}; check the file's name.") from error


def _describe(image: dict) -> tuple[int | str, str, tuple[int, int]]:
    """Id, file name and size of an image."""
    size_hw = (int(image["height"]), int(image["width"]))
    return image["id"], file_name(image), size_hw


def _grouped(entries: list[dict], images: Sequence[tuple], path: Path) -> list[list[dict]]:
    """The annotations of each image, crowds last."""
    of_image = defaultdict(list)
    for entry in entries:
        of_image[entry["image_id"]].append(entry)
    groups = [sorted(of_image.pop(image_id, []), key=_is_crowd) for image_id, _, _ in images]
    if of_image:
        raise InputError(f"{path} annotates image {next(iter(of_image))} but does not list it; add it.")
    return groups


def _is_crowd(entry: dict) -> bool:
    return bool(entry.get("iscrowd", 0))


def _counts(entry: dict, size_hw: tuple[int, int]) -> str:
    """The compressed counts, or what is wrong with the segmentation: it is raised when its image is read."""
    try:
        return encode_segmentation(entry["segmentation"], size_hw)["counts"]
    except InputError as error:
        return f"{_DAMAGED}{error}"


def _area(entry: dict, size_hw: tuple[int, int], counts: str) -> float:
    """What the file states, else the pixels of the mask; 0 where that is damaged, which is said when it is read."""
    stated = entry.get("area")
    if stated is not None:
        return float(stated)
    try:
        return float(rle.area({"size": list(size_hw), "counts": counts}))
    except InputError:
        return 0.0
