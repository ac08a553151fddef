"""Two baselines that know nothing about the world; ``tools/measure_entities.py`` measures them beside a model.

``grid``: every cell of 1x1, 2x2, 4x4 and 8x8 grids over the image, 85 boxes, larger first.
``felzenszwalb``: regions of Felzenszwalb and Huttenlocher's graph segmentation (IJCV 2004, by scikit-image)
at a fine and a coarse scale together, larger first.
"""

from collections.abc import Callable, Sequence

import numpy as np
from skimage.segmentation import felzenszwalb

from cropformer import Entities, rle

GRIDS = (1, 2, 4, 8)
SCALES = (300, 1000)  # the best AP of a few pairs on 27 COCO val photos, in the baseline's favour
SIGMA = 0.8
MIN_REGION_PIXELS = 200
MAX_ENTITIES = 100


def grid(image: np.ndarray) -> Entities:
    """Cells of regular grids over an image, uint8 RGB [H,W,3]."""
    height, width = image.shape[:2]
    maps = []
    for cells in GRIDS:
        rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
        maps.append(rows[:, None] * cells + columns[None])  # [H,1] + [1,W] -> [H,W]
    return _by_area(maps)


def felzenszwalb_regions(image: np.ndarray) -> Entities:
    """Felzenszwalb regions of an image, uint8 RGB [H,W,3], at two scales that overlap each other."""
    return _by_area([felzenszwalb(image, scale=scale, sigma=SIGMA, min_size=MIN_REGION_PIXELS) for scale in SCALES])


def _by_area(id_maps: Sequence[np.ndarray]) -> Entities:
    """Take the regions of all maps, each int [H,W], as entities scored by area; keep the largest."""
    rles = [encoded for id_map in id_maps for encoded in rle.encode_id_map(id_map, np.unique(id_map))]
    areas = np.array([rle.area(encoded) for encoded in rles])
    size_hw = id_maps[0].shape
    entities = Entities.from_rles(size_hw, rles, areas / np.prod(size_hw), np.zeros(len(rles)))
    return entities.select(np.arange(len(entities)) < MAX_ENTITIES)


BASELINES: dict[str, Callable[[np.ndarray], Entities]] = {
    "grid": grid,
    "felzenszwalb": felzenszwalb_regions,
}
