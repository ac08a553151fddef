"""COCO-panoptic JSON with its folder of id PNGs: one entity per segment, id = R + 256 G + 65536 B."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cropformer import Cut, InputError, cut_masks, read_image, rle
from entitytransfer.adapter import Sample, Truth
from entitytransfer.readers.coco_json import as_locator, load_json


@dataclass(frozen=True)
class PanopticSegments:
    """The segments of one image and, last, its crowds, which only metrics look at.

    Attributes:
        png_path: the map of all of them.
        size_hw: size of the image.
        segment_ids: their ids in the map.
        class_labels: their classes.
        areas: in pixels, as the file states them, which may be more than the map shows; None counts what it shows.
        crowds: how many of the segments are crowds.
    """

    png_path: Path
    size_hw: tuple[int, int]
    segment_ids: tuple[int, ...]
    class_labels: tuple[int, ...]
    areas: tuple[float | None, ...]
    crowds: int = 0

    def masks(self) -> np.ndarray:
        """Decode every segment but the crowds: bool [N,H,W]; a segment painted over by others has no pixels left.

        Raises:
            InputError: the PNG cannot be read or has another size than the image.
        """
        return self._masks_of(self._read())

    def rles(self) -> list[rle.RLE]:
        """Return the masks as compressed COCO RLE. Raises InputError as `masks` does."""
        return rle.encode_id_map(ids_of_colors(self._read()), self.segment_ids[self._entities])

    def cut(self, cut: Cut) -> np.ndarray:
        """Return what a view shows of the segments: bool [N,h,w]. Raises InputError as `masks` does."""
        planes = cut_masks(np.moveaxis(self._read(), -1, 0), cut)  # [H,W,3] -> [3,H,W] -> [3,h,w]
        return self._masks_of(np.moveaxis(planes, 0, -1))

    def _read(self) -> np.ndarray:
        """The PNG as it is, uint8 [H,W,3]."""
        rgb = read_image(self.png_path)
        if rgb.shape[:2] != self.size_hw:
            raise InputError(
                f"{self.png_path} has height and width {rgb.shape[:2]} but its image {self.size_hw}; "
                "put back the original PNG."
            )
        return rgb

    def _masks_of(self, rgb: np.ndarray) -> np.ndarray:
        """Masks of a part of the PNG: uint8 [h,w,3] to bool [N,h,w]."""
        ids = np.asarray(self.segment_ids[self._entities], dtype=np.int32)
        return ids_of_colors(rgb)[None] == ids[:, None, None]  # [1,h,w] == [N,1,1] -> [N,h,w]

    def labels(self) -> np.ndarray:
        """Return one class label per segment: int64 [N]."""
        return np.asarray(self.class_labels[self._entities], dtype=np.int64)

    def truth(self) -> Truth:
        """Return the segments and the crowds; one without a pixel is there if the file states its area.

        Raises InputError as `masks` does.
        """
        rles = rle.encode_id_map(ids_of_colors(self._read()), self.segment_ids)
        areas = [rle.area(region) if area is None else area for region, area in zip(rles, self.areas)]
        kept = np.flatnonzero([stated is not None or area > 0 for stated, area in zip(self.areas, areas)])
        return Truth(
            rles=[rles[i] for i in kept],
            labels=np.asarray(self.class_labels, dtype=np.int64)[kept],
            areas=np.asarray(areas, dtype=np.float64)[kept],
            is_crowd=kept >= self._entities.stop,
        )

    @property
    def _entities(self) -> slice:
        return slice(len(self.segment_ids) - self.crowds)


def read_id_map(path: Path | str) -> np.ndarray:
    """Read a panoptic PNG as segment ids: int32 [H,W], 0 = unlabelled."""
    return ids_of_colors(read_image(path))


def ids_of_colors(rgb: np.ndarray) -> np.ndarray:
    """R + 256 G + 65536 B of uint8 [H,W,3]: int32 [H,W]."""
    ids = rgb[..., 2].astype(np.int32)
    for channel in (1, 0):
        ids <<= 8
        ids |= rgb[..., channel]
    return ids


def colors_of_ids(ids: np.ndarray) -> np.ndarray:
    """The inverse of `ids_of_colors`: uint8 [H,W,3] of integers below 2^24."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def read_panoptic(
    annotations: Path | str,
    png_root: Path | str | Callable[[str], Path],
    image_root: Path | str | Callable[[str], Path],
    *,
    exhaustive: bool = True,
    label_of: Mapping[int, int] | None = None,
) -> list[Sample]:
    """Index a COCO-panoptic set: one `Sample` per annotated image, in file order; crowds are in its truth alone.

    Args:
        annotations: the JSON file.
        png_root: the folder that the annotations' ``file_name`` is relative to, or a function that finds a PNG by it.
        image_root: the same for the images' ``file_name``.
        exhaustive: whether every region of every image is annotated.
        label_of: category id → class label; None makes every segment class 0.

    Raises:
        InputError: the file is missing, not COCO-panoptic JSON, or contradicts itself.
    """
    path = Path(annotations)
    content = load_json(path, fields=("images", "annotations"))
    options = {"exhaustive": exhaustive, "label_of": label_of}
    return panoptic_samples(content, png_root, image_root, source=path, **options)


def panoptic_samples(
    content: Mapping[str, Any],
    png_root: Path | str | Callable[[str], Path],
    image_root: Path | str | Callable[[str], Path],
    *,
    source: Path,
    exhaustive: bool = True,
    label_of: Mapping[int, int] | None = None,
) -> list[Sample]:
    """What `read_panoptic` gives of a file that is loaded already; ``source`` is its path."""
    locate_png, locate_image = as_locator(png_root), as_locator(image_root)
    try:
        _check_categories(content, label_of, source)
        images = {image["id"]: image for image in content["images"]}
        samples = []
        for entry in content["annotations"]:
            image = images.get(entry["image_id"])
            if image is None:
                raise InputError(f"{source} annotates image {entry['image_id']} but does not list it; add it.")
            size_hw = (int(image["height"]), int(image["width"]))
            segments = _keep_segments(locate_png(entry["file_name"]), size_hw, entry, label_of)
            samples.append(Sample(image["id"], locate_image(image["file_name"]), size_hw, segments, exhaustive))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{source} is not COCO-panoptic JSON, {error!r}; check the file's name.") from error
    return samples


def _check_categories(content: Mapping[str, Any], label_of: Mapping[int, int] | None, source: Path) -> None:
    if label_of is None:
        return
    used = {segment["category_id"] for entry in content["annotations"] for segment in entry["segments_info"]}
    unknown = sorted(used.difference(label_of))
    if unknown:
        raise InputError(f"{source} has segments of category {unknown[0]}, which is none of the {len(label_of)} known.")


def _keep_segments(
    png_path: Path, size_hw: tuple[int, int], entry: dict, label_of: Mapping[int, int] | None
) -> PanopticSegments:
    segments = sorted(entry["segments_info"], key=_is_crowd)
    return PanopticSegments(
        png_path=png_path,
        size_hw=size_hw,
        segment_ids=tuple(int(segment["id"]) for segment in segments),
        class_labels=tuple(label_of[segment["category_id"]] if label_of is not None else 0 for segment in segments),
        # Without classes a segment is an entity, and of an entity only what is visible counts.
        areas=tuple(None if label_of is None else segment.get("area") for segment in segments),
        crowds=sum(map(_is_crowd, segments)),
    )


def _is_crowd(segment: dict) -> bool:
    return bool(segment.get("iscrowd", 0))
