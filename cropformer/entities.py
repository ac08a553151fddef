"""``Entities``: what the model found in one image, as run-length masks with scores, labels and embeddings.

N entities · C channels · H, W image pixels.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from cropformer import rle
from cropformer.colors import id_colors, paint_ids
from cropformer.errors import InputError
from cropformer.files import atomic_path

if TYPE_CHECKING:
    import supervision

_MAX_PNG_ID = 65_535


@dataclass(frozen=True, eq=False)
class Entities:
    """The entities of one image, best score first; masks may overlap.

    Attributes:
        size_hw: image height and width in pixels.
        rles: N compressed COCO masks, see `cropformer.rle`.
        scores: float32 [N], descending unless the published order was asked for.
        labels: int64 [N], class index from 0; all 0 when class-agnostic.
        embeddings: float32 [N,C] query embeddings, or None.
        query_ids: int64 [N], the model's query that each entity came from, or None.

    Raises:
        ValueError: fields of different lengths.
    """

    size_hw: tuple[int, int]
    rles: list[rle.RLE]
    scores: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray | None = None
    query_ids: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Refuse a value that breaks the invariants."""
        fields = (self.scores, self.labels, self.embeddings, self.query_ids)
        lengths = {len(self.rles)} | {len(field) for field in fields if field is not None}
        if len(lengths) != 1:
            raise ValueError(f"Entities need one entry per mask in every field, not {sorted(lengths)}.")

    # --- building

    @classmethod
    def from_rles(
        cls,
        size_hw: tuple[int, int],
        rles: list[rle.RLE],
        scores: ArrayLike,
        labels: ArrayLike,
        embeddings: ArrayLike | None = None,
        query_ids: ArrayLike | None = None,
        *,
        sort: bool = True,
    ) -> "Entities":
        """Bring every array to its type, and sort by score (stable) unless told not to."""
        scores = np.asarray(scores, dtype=np.float32)
        order = np.argsort(-scores, kind="stable") if sort else np.arange(len(scores))

        def arrange(values: ArrayLike | None, dtype: type) -> np.ndarray | None:
            return None if values is None else np.asarray(values, dtype=dtype)[order]

        return cls(
            size_hw=(int(size_hw[0]), int(size_hw[1])),
            rles=[rles[i] for i in order],
            scores=scores[order],
            labels=arrange(labels, np.int64),
            embeddings=arrange(embeddings, np.float32),
            query_ids=arrange(query_ids, np.int64),
        )

    @classmethod
    def from_id_map(
        cls,
        id_map: np.ndarray,
        scores: ArrayLike,
        labels: ArrayLike,
        embeddings: ArrayLike | None = None,
        query_ids: ArrayLike | None = None,
        *,
        sort: bool = True,
    ) -> "Entities":
        """Non-overlapping entities from an integer map [H,W], where entity i has the value i + 1."""
        rles = rle.encode_id_map(id_map, np.arange(1, len(scores) + 1))
        return cls.from_rles(id_map.shape, rles, scores, labels, embeddings, query_ids, sort=sort)

    @classmethod
    def from_masks(
        cls,
        masks: np.ndarray,
        scores: ArrayLike,
        labels: ArrayLike,
        embeddings: ArrayLike | None = None,
        query_ids: ArrayLike | None = None,
    ) -> "Entities":
        """Entities from bool masks [N,H,W], which may overlap."""
        rles = [rle.encode(mask) for mask in masks]
        return cls.from_rles(masks.shape[1:], rles, scores, labels, embeddings, query_ids)

    @classmethod
    def empty(cls, size_hw: tuple[int, int]) -> "Entities":
        """No entity in an image of this size."""
        return cls.from_rles(size_hw, [], [], [])

    # --- asking

    def __len__(self) -> int:
        """Number of entities N."""
        return len(self.rles)

    def id_map(self) -> np.ndarray:
        """int32 [H,W]: 0 = none, i + 1 = entity i; where entities overlap the higher score wins."""
        return rle.decode_id_map(self.rles, self.size_hw)

    def masks(self) -> np.ndarray:
        """Bool [N,H,W]; the only method that needs memory for N full masks."""
        masks = np.zeros((len(self), *self.size_hw), dtype=bool)
        for mask, encoded in zip(masks, self.rles):
            mask[:] = rle.decode(encoded)
        return masks

    def boxes_xyxy(self) -> np.ndarray:
        """float32 [N,4] in pixels, right and bottom edges exclusive; zeros for an empty mask."""
        boxes = [rle.bounding_box_xyxy(encoded) for encoded in self.rles]
        return np.array(boxes, dtype=np.float32).reshape(-1, 4)

    def areas(self) -> np.ndarray:
        """int64 [N], pixels in each mask."""
        return np.array([rle.area(encoded) for encoded in self.rles], dtype=np.int64)

    def select(self, keep: np.ndarray) -> "Entities":
        """The entities where ``keep``, bool [N], is true."""
        index = np.flatnonzero(keep)
        fields = (self.scores, self.labels, self.embeddings, self.query_ids)
        chosen = (None if field is None else field[index] for field in fields)
        return Entities(self.size_hw, [self.rles[i] for i in index], *chosen)

    def filter(self, *, min_score: float = 0.0, min_area: int = 0) -> "Entities":
        """The entities with at least this score and this area in pixels."""
        return self.select((self.scores >= min_score) & (self.areas() >= min_area))

    # --- giving away

    def to_coco(self, image_id: int | str, *, category_id: int = 1) -> list[dict]:
        """COCO results: image_id, category_id, segmentation, score, bbox (xywh) and area of every entity.

        Label k becomes the category ``category_id + k``.
        """
        return [
            {
                "image_id": image_id,
                "category_id": category_id + int(self.labels[i]),
                "segmentation": self.rles[i],
                "score": float(self.scores[i]),
                "bbox": _box_xywh(self.rles[i]),
                "area": rle.area(self.rles[i]),
            }
            for i in range(len(self))
        ]

    def to_panoptic(self, *, category_id: int = 1) -> tuple[np.ndarray, list[dict]]:
        """COCO panoptic format: uint8 RGB [H,W,3] with id = R + 256 G + 65536 B, and the segments_info.

        Areas and boxes (xywh) are those of the visible pixels; an entity without any is left out.
        Label k becomes the category ``category_id + k``, as in `to_coco`.
        """
        id_map = self.id_map()
        visible = rle.encode_id_map(id_map, np.arange(1, len(self) + 1))
        segments_info = [
            {
                "id": i + 1,
                "category_id": category_id + int(self.labels[i]),
                "area": rle.area(visible[i]),
                "bbox": [int(side) for side in _box_xywh(visible[i])],
                "iscrowd": 0,
                "score": float(self.scores[i]),
            }
            for i in range(len(self))
            if rle.area(visible[i])
        ]
        rgb = np.stack([id_map & 255, id_map >> 8 & 255, id_map >> 16], axis=-1).astype(np.uint8)
        return rgb, segments_info

    def to_supervision(self) -> "supervision.Detections":
        """Detections of the ``supervision`` package, with full masks.

        Raises:
            InputError: the package is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise InputError("to_supervision needs the package supervision; run `pip install supervision`.") from error
        return supervision.Detections(
            xyxy=self.boxes_xyxy(), mask=self.masks(), confidence=self.scores, class_id=self.labels
        )

    def draw(self, image: np.ndarray, *, opacity: float = 0.55, color_ids: ArrayLike | None = None) -> np.ndarray:
        """Overlay on the image (uint8 RGB [H,W,3]), same shape and type.

        Args:
            image: the image that the entities belong to.
            opacity: strength of the tint, 0 to 1.
            color_ids: int [N], what each colour stands for, such as track ids; 1 to N if None.

        Raises:
            InputError: the image has another size than the entities.
        """
        if image.shape != (*self.size_hw, 3) or image.dtype != np.uint8:
            given, wanted = f"{image.dtype} {image.shape}", f"uint8 {(*self.size_hw, 3)}"
            raise InputError(f"Cannot draw on an image of {given}; give the RGB image, {wanted}.")
        ids = np.arange(1, len(self) + 1) if color_ids is None else np.asarray(color_ids)
        return paint_ids(image, self.id_map(), id_colors(ids), opacity=opacity)

    # --- disk

    def save(self, path: str | Path) -> None:
        """Write ``.json`` (COCO results, image_id = stem), ``.png`` (16-bit id map) or ``.npz`` (everything).

        Raises:
            InputError: another suffix, more than 65,535 entities in a PNG, or a place that cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in {".json", ".png", ".npz"}:
            raise InputError(f"Cannot tell the format of {path}; end its name in .json, .png or .npz.")
        if suffix == ".png" and len(self) > _MAX_PNG_ID:
            raise InputError(f"{len(self)} entities do not fit the 16-bit ids of {path}; save as .npz instead.")
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            if suffix == ".json":
                file.write(json.dumps(self.to_coco(path.stem)).encode())
            elif suffix == ".png":
                Image.fromarray(self.id_map().astype(np.uint16)).save(file, format="PNG")
            else:
                np.savez_compressed(file, **self._arrays())

    @classmethod
    def load(cls, path: str | Path) -> "Entities":
        """Read back a ``.npz`` file that `save` wrote.

        Raises:
            InputError: the file is missing, damaged or something else.
        """
        try:
            with np.load(path) as file:
                arrays = dict(file)
            height, width = arrays.pop("size_hw").tolist()
            counts = arrays.pop("counts").astype(str).tolist()
            return cls((height, width), [{"size": [height, width], "counts": text} for text in counts], **arrays)
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as error:
            raise InputError(f"{path} is not a file of entities; write it with Entities.save.") from error

    def _arrays(self) -> dict[str, np.ndarray]:
        """The fields as arrays for a ``.npz`` file; those that are None are left out."""
        fields = {
            "size_hw": np.array(self.size_hw),
            "counts": np.array([encoded["counts"] for encoded in self.rles], dtype=np.bytes_),
            "scores": self.scores,
            "labels": self.labels,
            "embeddings": self.embeddings,
            "query_ids": self.query_ids,
        }
        return {name: field for name, field in fields.items() if field is not None}


def _box_xywh(encoded: rle.RLE) -> list[float]:
    left, top, right, bottom = rle.bounding_box_xyxy(encoded).tolist()
    return [left, top, right - left, bottom - top]
