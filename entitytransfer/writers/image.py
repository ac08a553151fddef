"""The files of a segmented photo: overlay, id image, COCO results, COCO panoptic format."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from cropformer import Entities
from entitytransfer.predictions import ensure_writable, write_json, write_png

_CATEGORIES = [{"id": 1, "name": "entity", "isthing": 1}]


def write_image(out_dir: Path, name: str, *, image: np.ndarray, entities: Entities, formats: Collection[str]) -> None:
    """Write a photo's results.

    Args:
        out_dir: folder for the files.
        name: how their names begin, possibly with sub-folders; also the image id inside them.
        image: the photo, uint8 RGB [H,W,3].
        entities: what was found in it.
        formats: ``overlay`` is ``<name>_overlay.png``; ``ids`` is ``<name>_ids.png``, 16-bit grey, 0 = none,
            i + 1 = entity i; ``coco`` is ``<name>.json``, COCO results; ``panoptic`` is
            ``<name>_panoptic.png`` with ``<name>_panoptic.json``.

    Raises:
        InputError: a place that cannot be written, or a full disk.
    """
    base = out_dir / name
    ensure_writable(base.parent)
    if "overlay" in formats:
        write_png(base.with_name(f"{base.name}_overlay.png"), entities.draw(image))
    if "ids" in formats:
        entities.save(base.with_name(f"{base.name}_ids.png"))
    if "coco" in formats:
        write_json(base.with_name(f"{base.name}.json"), entities.to_coco(name))
    if "panoptic" in formats:
        _write_panoptic(base.with_name(f"{base.name}_panoptic.png"), name, entities)


def _write_panoptic(path: Path, image_id: str, entities: Entities) -> None:
    pixels, segments_info = entities.to_panoptic()
    height, width = entities.size_hw
    annotation = {"image_id": image_id, "file_name": path.name, "segments_info": segments_info}
    content = {
        "images": [{"id": image_id, "height": height, "width": width}],
        "annotations": [annotation],
        "categories": _CATEGORIES,
    }
    write_png(path, pixels)
    write_json(path.with_suffix(".json"), content)
