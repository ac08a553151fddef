"""What it costs to feed the training: crops and their masks out of large photos, next to a loader that decodes all.

The photos have the size of EntitySeg's, a short side of 2700 pixels, and some twenty entities each, which fill them
without overlap and are kept as RLE. Each gives a full view and one crop at the published training sizes. The plain
loader decodes the JPEG and, with pycocotools, every mask in full, and then crops and resizes; its masks are equal to
ours. Times are those of one image. Indexing the annotations, once in the life of a set, is left out, as is parsing
them for the plain loader. One row for each contender goes to ``results/loader.csv``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import RESULTS, ROOT, alternate, append_row, comparison_rows, cost_of, describe

if TYPE_CHECKING:
    import numpy as np

    from cropformer import Target, TrainingCrop, Views
    from entitytransfer.adapter import Sample

MODULE = "benchmarks.loader"
PEER = "plain"
CONTENDERS = ("ours", "ours full decode", PEER)
SHORT_SIDES, MAX_SIDE = (640, 672, 704, 736, 768, 800), 1333
ENTITIES = 20
GRID_HW = (9, 13)  # of the noise that the regions of the entities come from
BUNDLED = ROOT / "entitytransfer" / "assets" / "riders.jpg"


def main() -> None:
    """Measure the contenders, print the numbers and append them to the results."""
    arguments = parse_arguments()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, Path(arguments.set), images=arguments.images)))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ENTITYTRANSFER_CACHE"] = folder  # the fresh processes index once, and leave nothing behind
        os.environ["OMP_NUM_THREADS"] = "1"  # as loader processes have it
        make_set(Path(folder), arguments.photos, short_side=arguments.short_side)
        given = ["--set", folder, "--images", str(arguments.images)]
        alternate(MODULE, ["ours"], given, repeats=1)  # indexes
        runs = alternate(MODULE, CONTENDERS, given, repeats=arguments.repeats)
    case = {"short_side": arguments.short_side, "photos": len(arguments.photos), "images": arguments.images}
    for row in comparison_rows(MODULE, case, runs, peer=PEER):
        print(describe(row))
        if not arguments.dry_run:
            append_row(arguments.out, row)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", nargs="+", type=Path, default=[BUNDLED], help="what to enlarge")
    parser.add_argument("--short-side", type=int, default=2700, help="to how many pixels")
    parser.add_argument("--images", type=int, default=12, help="how many to load, the photos in turn")
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes for each contender")
    parser.add_argument("--out", type=Path, default=RESULTS / "loader.csv", help="CSV to append to")
    parser.add_argument("--dry-run", action="store_true", help="print only; write no row")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)  # the fresh process
    parser.add_argument("--set", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_set(folder: Path, photos: Sequence[Path], *, short_side: int) -> None:
    """Enlarged photos and their entities as ``photos/*.jpg`` and ``entities.json``."""
    from PIL import Image

    from cropformer import rle

    (folder / "photos").mkdir()
    images, entries = [], []
    for number, path in enumerate(photos):
        with Image.open(path) as photo:
            size = tuple(round(side * short_side / min(photo.size)) for side in photo.size)
            large = photo.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        large.save(folder / "photos" / f"{number}.jpg", quality=90)
        images.append({"id": number, "file_name": f"{number}.jpg", "height": large.height, "width": large.width})
        regions = make_regions((large.height, large.width), seed=number)
        for encoded in rle.encode_id_map(regions, range(ENTITIES)):
            entries.append({"id": len(entries), "image_id": number, "segmentation": encoded})
    (folder / "entities.json").write_text(json.dumps({"images": images, "annotations": entries}))


def make_regions(size_hw: tuple[int, int], *, seed: int) -> np.ndarray:
    """A partition with smooth borders: which of twenty noises, made smooth, is the largest; uint8 [H,W]."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(seed).standard_normal((ENTITIES, *GRID_HW), dtype=np.float32)
    largest, ids = np.full(size_hw, -np.inf, dtype=np.float32), np.zeros(size_hw, dtype=np.uint8)
    for number, coarse in enumerate(noise):
        fine = np.asarray(Image.fromarray(coarse).resize(size_hw[::-1], Image.Resampling.BICUBIC))
        ids[fine > largest] = number
        np.maximum(largest, fine, out=largest)
    return ids


def measure(contender: str, folder: Path, *, images: int) -> dict[str, float | int]:
    """Load some images in this process, the same crops for every contender, and say what one of them took."""
    import torch

    from entitytransfer.readers.coco_json import read_coco

    samples = read_coco(folder / "entities.json", folder / "photos", exhaustive=True)
    order = [samples[number % len(samples)] for number in range(images)]
    load = {"ours": load_cut, "ours full decode": partial(load_cut, reduced_decode=False), PEER: load_plain}[contender]
    shown, cost = cost_of(lambda: [load(sample, draw_crop(seed))[1].valid for seed, sample in enumerate(order)])
    each = {name: cost[name] / images for name in ("cpu_s", "wall_s")}
    found = {"entities": sum(len(valid) for valid in shown), "shown": sum(int(valid.sum()) for valid in shown)}
    return cost | each | found | {"threads": torch.get_num_threads()}


def draw_crop(seed: int) -> TrainingCrop:
    """The published choices."""
    from cropformer import draw_training_crop

    return draw_training_crop(short_sides=SHORT_SIDES, max_side=MAX_SIDE, generator=random.Random(seed))


def load_cut(sample: Sample, crop: TrainingCrop, *, reduced_decode: bool = True) -> tuple[Views, Target]:
    """Our loader."""
    from entitytransfer.training.data import cut_example

    return cut_example(sample, crop.cuts(sample.size_hw), reduced_decode=reduced_decode)


def load_plain(sample: Sample, crop: TrainingCrop) -> tuple[Views, Target]:
    """Decode everything in full, then flip, crop and resize."""
    import numpy as np
    from pycocotools import mask as coco_mask

    from cropformer import training_views

    rles = [rle for rle in sample.entity_rles() if coco_mask.area(rle)]
    masks = np.stack([coco_mask.decode(rle).view(bool) for rle in rles])
    return training_views(sample.read_frame(), masks, crop)


if __name__ == "__main__":
    main()
