"""Checks of COCO-instance JSON."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from cropformer import InputError, rle
from entitytransfer.checks.images import (
    DOWNLOAD_AGAIN,
    ListedImage,
    Photos,
    check_images,
    check_listing,
    check_published,
    count,
    examples,
    in_parallel,
)
from entitytransfer.doctor import Finding
from entitytransfer.readers.coco_json import file_name, listed_classes, load_json
from entitytransfer.readers.segmentations import encode_segmentation

QUERY_COUNTS = (100, 200)  # of the published models; an image with more entities cannot be learnt as a whole


def check_instances(
    path: Path,
    place: Callable[[str], Path],
    photos: Photos,
    *,
    name: str,
    download: str,
    classes: int | None = None,
    images: int | None = None,
) -> Iterator[Finding]:
    """Everything about one annotation file and the images that it lists; the last finding counts them.

    Args:
        path: the JSON file.
        place: where an image is, from its ``file_name``.
        photos: sizes of the image files.
        name: what the file is, for the counts.
        download: what to do about missing images.
        classes: number of categories that the file should have; None if any will do.
        images: number of images that the published file lists; None if any will do.
    """
    try:
        content = load_json(path, fields=("images", "annotations"))
        listed = listed_images(content, place)
        if images is not None:
            yield from check_published(len(listed), images, "image", name=path.name, where=path)
        yield from check_listing(listed, source=path)
        yield from check_images(listed, photos, source=path, download=download)
        yield from _check_annotations(content["annotations"], listed, path)
        used = [entry["category_id"] for entry in content["annotations"]]
        yield from check_categories(content, used, source=path, classes=classes)
        counts = Counter({image.image_id: 0 for image in listed})
        counts.update(entry["image_id"] for entry in content["annotations"] if not entry.get("iscrowd", 0))
        yield from check_counts(counts, used, source=path, name=name)
    except InputError as error:
        yield Finding("broken", str(error), path, DOWNLOAD_AGAIN)
    except (KeyError, TypeError, AttributeError) as error:
        yield Finding("broken", f"{path.name} is not COCO-instance JSON: {error!r}", path, DOWNLOAD_AGAIN)


def listed_images(content: Mapping, place: Callable[[str], Path]) -> list[ListedImage]:
    """The images of a COCO-format file."""
    return [
        ListedImage(image["id"], place(file_name(image)), (int(image["height"]), int(image["width"])))
        for image in content["images"]
    ]


def check_categories(content: Mapping, used: Iterable[int], *, source: Path, classes: int | None) -> Iterator[Finding]:
    """Every category that is used is listed, and there are as many as there should be.

    Args:
        content: the annotation file.
        used: category ids of its annotations.
        source: its path.
        classes: number of categories of the published file; None if categories do not matter.
    """
    if classes is None:
        return
    known = listed_classes(content).category_ids
    unknown = sorted(set(used).difference(known))
    if unknown:
        what = f"{count(len(unknown), 'category id')} used but not listed: {examples(unknown)}"
        yield Finding("broken", what, source, DOWNLOAD_AGAIN)
    if len(known) != classes:
        what = f"{count(len(known), 'category id')} listed, but the published file has {classes}"
        yield Finding("broken" if len(known) > classes else "note", what, source, DOWNLOAD_AGAIN)


def check_counts(
    counts: Mapping[int | str, int], categories: Iterable[int], *, source: Path, name: str
) -> Iterator[Finding]:
    """Images that are empty or very full; then how many images, entities and classes there are.

    Args:
        counts: entities of every listed image, by its id.
        categories: those of the entities; they may repeat.
        source: the annotation file.
        name: what it is.
    """
    empty = [image_id for image_id, number in counts.items() if number == 0]
    if empty:
        what = f"{count(len(empty), 'image')} of {name} without entities: image ids {examples(empty)}"
        yield Finding("note", what, source, "Training leaves them out.")
    for queries in QUERY_COUNTS:
        full = [image_id for image_id, number in counts.items() if number > queries]
        if full:
            what = f"{count(len(full), 'image')} of {name} with more than {queries} entities: image ids "
            yield Finding(
                "note", what + examples(full), source, f"A model of {queries} queries cannot find all of them."
            )
    total, images = sum(counts.values()), len(counts)
    if not images:
        yield Finding("broken", f"{name}: no image", source, DOWNLOAD_AGAIN)
        return
    mean, most, classes = total / images, max(counts.values()), len(set(categories))
    entities = f"{total:,} entities ({mean:.1f} in an image, at most {most}), categories: {classes}"
    yield Finding("ok", f"{name}: {count(images, 'image')}, {entities}", source)


def _check_annotations(entries: Sequence[Mapping], listed: Sequence[ListedImage], path: Path) -> Iterator[Finding]:
    sizes_hw = {image.image_id: image.size_hw for image in listed}
    orphans = [entry["id"] for entry in entries if entry["image_id"] not in sizes_hw]
    if orphans:
        what = f"{count(len(orphans), 'annotation')} of images that are not listed: ids {examples(orphans)}"
        yield Finding("broken", what, path, DOWNLOAD_AGAIN)
    twice = [entry_id for entry_id, times in Counter(entry["id"] for entry in entries).items() if times > 1]
    if twice:
        what = f"{count(len(twice), 'annotation id')} used more than once: {examples(twice)}"
        yield Finding("broken", what, path, DOWNLOAD_AGAIN)
    crowds = [entry["id"] for entry in entries if entry.get("iscrowd", 0)]
    if crowds:
        what = f"{count(len(crowds), 'crowd annotation')}: ids {examples(crowds)}"
        yield Finding("note", what, path, "Training leaves them out.")
    yield from _check_masks([entry for entry in entries if entry["image_id"] in sizes_hw], sizes_hw, path)


def _check_masks(
    entries: Sequence[Mapping], sizes_hw: Mapping[int | str, tuple[int, int]], path: Path
) -> Iterator[Finding]:
    areas = in_parallel(partial(_area, sizes_hw=sizes_hw), entries, name="masks")
    damaged = {entry["id"]: area for entry, area in zip(entries, areas) if isinstance(area, InputError)}
    if damaged:
        what = f"{count(len(damaged), 'damaged mask')}: annotation ids {examples(damaged)}; "
        what += str(next(iter(damaged.values())))
        yield Finding("broken", what, path, DOWNLOAD_AGAIN)
    empty = [entry["id"] for entry, area in zip(entries, areas) if area == 0]
    if empty:
        what = f"{count(len(empty), 'mask')} without a pixel: annotation ids {examples(empty)}"
        yield Finding("note", what, path, "Training leaves them out.")


def _area(entry: Mapping, *, sizes_hw: Mapping[int | str, tuple[int, int]]) -> int | InputError:
    """Pixels of a mask, or what is wrong with it; it is not decoded."""
    try:
        return rle.area(encode_segmentation(entry["segmentation"], sizes_hw[entry["image_id"]]))
    except InputError as error:
        return error
