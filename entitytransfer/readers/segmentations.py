"""The three encodings of a mask in COCO-format JSON, checked and turned into compressed RLE."""

import numpy as np

from cropformer import InputError, rle


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
