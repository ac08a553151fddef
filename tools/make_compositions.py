"""Makes synthetic training images: objects cut out of photos and pasted over fully annotated photos.

Every occlusion is known exactly, so the result, COCO-instance JSON beside ``images/``, is exhaustive.
Composition number i depends only on the sources, the seed and i.

    python -m tools.make_compositions --panoptic DIR --instances DIR --out DIR --count 300 --seed 0
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from rich.progress import track

from cropformer import InputError, rle
from cropformer.files import atomic_path
from entitytransfer.adapter import Sample
from entitytransfer.datasets import coco

CUT_OUTS_PER_IMAGE = (2, 6)
SOURCE_AREA = (0.01, 0.40)  # of the photo that the cut-out comes from
SCALE = (0.5, 1.4)
ROTATION_DEGREES = 15.0
JITTER = 0.25
FEATHER_PIXELS = 1.0
CONTEXT_PIXELS = 4  # real surroundings kept around a cut-out, for the soft edge to fade into
MIN_KEPT, MIN_PIXELS = 0.25, 64  # an entity that keeps less than this is too hidden to be asked for
JPEG_QUALITY = 92


@dataclass(frozen=True)
class CutOut:
    """One annotated object of a photo that lies wholly inside it, by reference."""

    sample: Sample
    index: int

    def rgba(self) -> Image.Image:
        """Cut the object out of its photo; alpha is its mask."""
        mask = self.sample.entity_masks()[self.index]
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (
            slice(max(rows[0] - CONTEXT_PIXELS, 0), rows[-1] + 1 + CONTEXT_PIXELS),
            slice(max(columns[0] - CONTEXT_PIXELS, 0), columns[-1] + 1 + CONTEXT_PIXELS),
        )
        alpha = mask[box].astype(np.uint8) * 255
        return Image.fromarray(np.dstack([self.sample.read_frame()[box], alpha]))


def find_cut_outs(samples: Sequence[Sample]) -> list[CutOut]:
    """Every annotated object of moderate size that does not touch the border of its photo."""
    return [CutOut(sample, int(index)) for sample in samples for index in whole_objects(sample.entity_masks())]


def whole_objects(masks: np.ndarray) -> np.ndarray:
    """Indices of the masks, bool [N,H,W], of moderate size that do not touch the border: int64 [M]."""
    height, width = masks.shape[1:]
    areas = masks.sum(axis=(1, 2)) / (height * width)
    inner = masks[:, 1 : height - 1, 1 : width - 1].sum(axis=(1, 2)) / (height * width)
    return np.flatnonzero((areas >= SOURCE_AREA[0]) & (areas <= SOURCE_AREA[1]) & (inner == areas))


def vary(cut_out: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Scale, mirror, turn and recolour a cut-out at random, and soften its edge."""
    scale = math.exp(rng.uniform(*np.log(SCALE)))
    width, height = (max(round(side * scale), 1) for side in cut_out.size)
    cut_out = cut_out.resize((width, height), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        cut_out = ImageOps.mirror(cut_out)
    angle = rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES)
    cut_out = cut_out.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    alpha = cut_out.getchannel("A").filter(ImageFilter.GaussianBlur(FEATHER_PIXELS))
    color = cut_out.convert("RGB")
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        color = enhance(color).enhance(rng.uniform(1 - JITTER, 1 + JITTER))
    color.putalpha(alpha)
    return color


def paste(
    image: Image.Image, masks: np.ndarray, cut_out: Image.Image, *, center_xy: tuple[int, int]
) -> tuple[Image.Image, np.ndarray]:
    """Paste a cut-out and take the pixels that it hides away from the masks below.

    Args:
        image: RGB image.
        masks: bool [N,H,W], the entities so far.
        cut_out: RGBA image; what is outside the image is lost.
        center_xy: where its centre goes, in pixels.

    Returns:
        The new image, and bool [N+1,H,W] masks with the cut-out as the last.
    """
    corner = (center_xy[0] - cut_out.width // 2, center_xy[1] - cut_out.height // 2)
    alpha = cut_out.getchannel("A")
    layer = Image.new("L", image.size)
    layer.paste(alpha, corner)
    image = image.copy()
    image.paste(cut_out.convert("RGB"), corner, alpha)
    covered = np.asarray(layer) >= 128
    return image, np.concatenate([masks & ~covered, covered[None]])


def compose(background: Sample, cut_outs: Sequence[CutOut], rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """Paste the cut-outs over the background one after another, each at a random place.

    Returns:
        The RGB image, and bool [N,H,W] masks of the entities that are still visible enough.
    """
    image = Image.fromarray(background.read_frame())
    masks = background.entity_masks()
    whole_areas = list(masks.sum(axis=(1, 2)))
    for cut_out in cut_outs:
        varied = vary(cut_out.rgba(), rng)
        center_xy = (int(rng.integers(image.width)), int(rng.integers(image.height)))
        image, masks = paste(image, masks, varied, center_xy=center_xy)
        whole_areas.append((np.asarray(varied.getchannel("A")) >= 128).sum())
    areas = masks.sum(axis=(1, 2))
    visible = (areas >= MIN_PIXELS) & (areas >= MIN_KEPT * np.asarray(whole_areas))
    return image, masks[visible]


def make_compositions(
    backgrounds: Sequence[Sample], cut_outs: Sequence[CutOut], *, count: int, seed: int
) -> Iterator[tuple[Image.Image, np.ndarray]]:
    """Yield ``count`` compositions as RGB image and bool [N,H,W] masks, see `compose`."""
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        background = backgrounds[rng.integers(len(backgrounds))]
        number = rng.integers(CUT_OUTS_PER_IMAGE[0], CUT_OUTS_PER_IMAGE[1] + 1)
        chosen = [cut_outs[i] for i in rng.integers(len(cut_outs), size=number)]
        yield compose(background, chosen, rng)


def write_compositions(out: Path, compositions: Iterator[tuple[Image.Image, np.ndarray]]) -> None:
    """Write ``images/*.jpg`` and, when all are there, ``instances.json``."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for image_id, (image, masks) in enumerate(compositions, start=1):
        name = f"{image_id:06d}.jpg"
        with atomic_path(out / "images" / name) as temporary:
            image.save(temporary, quality=JPEG_QUALITY)
        images.append({"id": image_id, "file_name": name, "height": image.height, "width": image.width})
        for mask in masks:
            annotations.append(_annotation(mask, image_id, annotation_id=len(annotations) + 1))
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "entity"}]}
    with atomic_path(out / "instances.json") as temporary:
        temporary.write_text(json.dumps(content))


def _annotation(mask: np.ndarray, image_id: int, *, annotation_id: int) -> dict:
    encoded = rle.encode(mask)
    left, top, right, bottom = rle.bounding_box_xyxy(encoded).tolist()
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "area": rle.area(encoded),
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": encoded,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, make the compositions, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panoptic", type=Path, required=True, help="fully annotated set: the backgrounds")
    parser.add_argument("--instances", type=Path, required=True, nargs="+", help="sets to cut objects from")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        backgrounds = coco.read(options.panoptic)
        cut_outs = find_cut_outs([sample for root in options.instances for sample in coco.read(root)])
        if not backgrounds or not cut_outs:
            raise InputError("There is no photo to paste on or no whole object to paste; name other sets.")
        compositions = make_compositions(backgrounds, cut_outs, count=options.count, seed=options.seed)
        write_compositions(options.out, track(compositions, "Composing", total=options.count))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
