"""Makes the low-resolution set of EntitySeg: images_lr/ and entityv2_010203_entity_{train,val}_lr.json.

Images are resized as in training (antialiased bilinear, short side 800, long side at most 1333) and stored as JPEG of
quality 95 without colour subsampling; masks are resized to the nearest pixel. Images and annotation files that are
there at the right size already are kept, so a run that was killed goes on where it stopped.

    python -m tools.make_low_res ROOT
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from rich.progress import track

from cropformer import Cut, InputError, atomic_path, cut_rles, rle
from cropformer.resampling import resized_size_hw
from entitytransfer.adapter import Sample
from entitytransfer.checks.images import image_size_hw
from entitytransfer.commands.parsing import at_least
from entitytransfer.datasets.entityseg import Files, locate_files
from entitytransfer.predictions import write_json
from entitytransfer.readers.coco_json import CocoInstances, load_json
from entitytransfer.readers.segmentations import encode_segmentation

JPEG_OPTIONS = {"quality": 95, "subsampling": 0}
SPLITS = ("train", "val")

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """One image: its entry in the annotation file, those of its masks, where it is, where it goes, and its new size."""

    image: Entry
    annotations: Sequence[Entry]
    source: Path
    destination: Path
    size_hw: tuple[int, int]


@dataclass(frozen=True)
class Outcome:
    """What became of a split.

    Attributes:
        images: number of images.
        made: those that were not there before.
        lost: ids of the annotations that have no pixel left and are not in the new file; None if it was there.
    """

    images: int
    made: int
    lost: tuple[int, ...] | None

    def sentence(self) -> str:
        """The outcome in words."""
        images = f"{self.made} of {self.images} images made, the others were there"
        if self.lost is None:
            return f"{images}; the annotation file was there"
        return images + (f"; entities that have no pixel left, left out: {len(self.lost)}" if self.lost else "")


def make_split(
    root: Path | str, split: str, *, short_side: int = 800, max_side: int = 1333, workers: int = 1
) -> Outcome:
    """Make the low-resolution images and the annotation file of a split.

    Args:
        root: the folder of EntitySeg.
        split: "train" or "val".
        short_side: length of the short side.
        max_side: bound on the long side.
        workers: processes; 1 works in this one.

    Raises:
        InputError: a file is missing or damaged, or cannot be written.
    """
    high, low = (locate_files(root, split=split, task="entity", resolution=name) for name in ("high", "low"))
    content = load_json(high.annotations, fields=("images", "annotations"))
    jobs = _plan(content, high, low, resize=partial(resized_size_hw, short_side=short_side, max_side=max_side))
    is_annotated = _lists(low.annotations, jobs)
    made = sum(track(_each(shrink_image, jobs, workers), f"{split} images", total=len(jobs)))
    if is_annotated:
        return Outcome(len(jobs), made, None)
    kept = list(track(_each(shrink_annotations, jobs, workers), f"{split} masks", total=len(jobs)))
    annotations = [entry for entries in kept for entry in entries]
    images = [{**job.image, "height": job.size_hw[0], "width": job.size_hw[1]} for job in jobs]
    write_json(low.annotations, {**content, "images": images, "annotations": annotations})
    remaining = {entry["id"] for entry in annotations}
    lost = (entry["id"] for job in jobs for entry in job.annotations if entry["id"] not in remaining)
    return Outcome(len(jobs), made, tuple(lost))


def shrink_image(job: Job) -> bool:
    """Write the small image unless it is there; whether it was written.

    Raises:
        InputError: the image cannot be read, is not of the annotated size, or the small one cannot be written.
    """
    try:
        if image_size_hw(job.destination) == job.size_hw:
            return False
    except (FileNotFoundError, InputError):
        pass  # not there yet, or half a file
    nothing = CocoInstances(job.source, _size_hw(job.image), ids=(), counts=(), class_labels=(), areas=())
    sample = Sample(job.image["id"], job.source, _size_hw(job.image), nothing, exhaustive=True)
    (pixels,) = sample.read_views([_whole(job)], reduced=False)
    options = JPEG_OPTIONS if job.destination.suffix.lower() in {".jpg", ".jpeg"} else {}
    job.destination.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(job.destination) as temporary:
        Image.fromarray(pixels).save(temporary, **options)
    return True


def shrink_annotations(job: Job) -> list[Entry]:
    """The entries of the masks at the new size, with area and box; those that have no pixel left are left out.

    Raises:
        InputError: a mask is damaged.
    """
    entries = []
    for entry in job.annotations:
        try:
            (mask,) = cut_rles([encode_segmentation(entry["segmentation"], _size_hw(job.image))], _whole(job))
        except InputError as error:
            raise InputError(f"Annotation {entry['id']} of {job.image['file_name']}: {error}") from error
        encoded = rle.encode(mask)
        left, top, right, bottom = map(int, rle.bounding_box_xyxy(encoded))
        if right > left:
            shape = {"area": rle.area(encoded), "bbox": [left, top, right - left, bottom - top]}
            entries.append({**entry, **shape, "segmentation": encoded})
    return entries


def _plan(
    content: Entry, high: Files, low: Files, *, resize: Callable[[tuple[int, int]], tuple[int, int]]
) -> list[Job]:
    annotations = defaultdict(list)
    try:
        for entry in content["annotations"]:
            annotations[entry["image_id"]].append(entry)
        jobs = []
        for image in content["images"]:
            source = high.image(image["file_name"])
            destination = low.images / source.relative_to(high.images)
            jobs.append(Job(image, annotations[image["id"]], source, destination, resize(_size_hw(image))))
    except (KeyError, TypeError) as error:
        raise InputError(f"{high.annotations} is not COCO-instance JSON, {error!r}; download it again.") from error
    return jobs


def _lists(path: Path, jobs: Sequence[Job]) -> bool:
    """Whether an annotation file is there and lists the images at their new sizes."""
    try:
        listed = {image["id"]: _size_hw(image) for image in load_json(path, fields=("images",))["images"]}
    except (InputError, KeyError, TypeError):
        return False  # not there yet, or damaged
    return listed == {job.image["id"]: job.size_hw for job in jobs}


def _each(work: Callable[[Job], Any], jobs: Sequence[Job], workers: int) -> Iterator[Any]:
    """``work`` of every job, in order, in several processes."""
    if workers == 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from pool.map(work, jobs, chunksize=4)
        finally:
            pool.shutdown(cancel_futures=True)


def _whole(job: Job) -> Cut:
    height, width = _size_hw(job.image)
    return Cut((0, 0, width, height), job.size_hw)


def _size_hw(image: Entry) -> tuple[int, int]:
    return int(image["height"]), int(image["width"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, make the set, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="the folder that holds entityseg/, or that folder itself")
    parser.add_argument("--short-side", type=at_least(1), default=800)
    parser.add_argument("--max-side", type=at_least(1), default=1333)
    parser.add_argument("--workers", type=at_least(1), default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args(arguments)
    sides = {"short_side": options.short_side, "max_side": options.max_side}
    try:
        for split in SPLITS:
            outcome = make_split(options.root, split, **sides, workers=options.workers)
            print(f"{split}: {outcome.sentence()}")
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
