"""Checks of maps, PNGs with a number for each pixel: the segments of panoptic sets, the labels of semantic ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from cropformer import InputError
from entitytransfer.checks.images import (
    DOWNLOAD_AGAIN,
    ListedImage,
    Photos,
    check_images,
    check_listing,
    count,
    examples,
    in_parallel,
)
from entitytransfer.checks.instances import check_categories, check_counts, listed_images
from entitytransfer.doctor import Finding
from entitytransfer.readers.coco_json import load_json
from entitytransfer.readers.label_map import LabelRegions, read_size_hw
from entitytransfer.readers.panoptic_png import read_id_map

_DOWNLOAD_MAPS = "Download the maps again."


@dataclass(frozen=True)
class ListedMap:
    """A panoptic map, the size it should have, and the segment ids that it should hold."""

    path: Path
    size_hw: tuple[int, int]
    ids: tuple[int, ...]


def check_panoptic(
    path: Path,
    place: Callable[[str], Path],
    place_map: Callable[[str], Path],
    photos: Photos,
    *,
    name: str,
    download: str,
    classes: int | None = None,
    may_hide: bool = False,
) -> Iterator[Finding]:
    """Everything about one panoptic file, its maps and the images that it lists; the last finding counts them.

    Args:
        path: the JSON file.
        place: where an image is, from its ``file_name``.
        place_map: where a map is, from the ``file_name`` of its annotation.
        photos: sizes of the image files.
        name: what the file is, for the counts.
        download: what to do about missing images.
        classes: number of categories that the file should have; None if any will do.
        may_hide: whether segments may lie under others, so that no pixel of them is in the map.
    """
    try:
        content = load_json(path, fields=("images", "annotations"))
        listed = listed_images(content, place)
        yield from check_listing(listed, source=path)
        yield from check_images(listed, photos, source=path, download=download)
        used = [segment["category_id"] for entry in content["annotations"] for segment in entry["segments_info"]]
        yield from check_categories(content, used, source=path, classes=classes)
        yield from _check_segments(content["annotations"], listed, place_map, path, may_hide=may_hide)
        counts = {image.image_id: 0 for image in listed}
        for entry in content["annotations"]:
            counts[entry["image_id"]] = sum(not segment.get("iscrowd", 0) for segment in entry["segments_info"])
        yield from check_counts(counts, used, source=path, name=name)
    except InputError as error:
        yield Finding("broken", str(error), path, DOWNLOAD_AGAIN)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        yield Finding("broken", f"{path.name} is not COCO-panoptic JSON: {error!r}", path, DOWNLOAD_AGAIN)


def check_label_maps(
    files: Sequence[tuple[Path, Path]],
    photos: Photos,
    *,
    source: Path,
    name: str,
    download: str,
    classes: int,
    ignored: int = 255,
    first: int = 0,
) -> Iterator[Finding]:
    """Label PNGs and the images that they belong to; the last finding counts them.

    Args:
        files: image and label PNG of each sample.
        photos: sizes of the image files.
        source: the file that lists them.
        name: what it is, for the counts.
        download: what to do about missing images.
        classes: number of classes.
        ignored: value of the pixels that belong to no class.
        first: value of the pixels of the first class.
    """
    sizes = photos.sizes_hw(image for image, _ in files)
    maps = [(png, sizes[image] if isinstance(sizes[image], tuple) else None) for image, png in files]
    values = {"classes": classes, "ignored": ignored, "first": first}
    found = in_parallel(partial(_labels, values=values), maps, name="maps")
    # What the image should be like only its own file says: a map of another size is the map's fault.
    listed = [ListedImage(image.stem, image, size_hw or (0, 0)) for (image, _), (_, size_hw) in zip(files, maps)]
    yield from check_listing(listed, source=source)
    yield from check_images(listed, photos, source=source, download=download)
    yield from report_maps([png for png, _ in maps], found, source=source)
    labels = {image.stem: shown for (image, _), shown in zip(files, found) if isinstance(shown, tuple)}
    counts = {stem: len(shown) for stem, shown in labels.items()}
    yield from check_counts(counts, chain.from_iterable(labels.values()), source=source, name=name)


def _check_segments(
    entries: Sequence[Mapping],
    listed: Sequence[ListedImage],
    place_map: Callable[[str], Path],
    source: Path,
    *,
    may_hide: bool,
) -> Iterator[Finding]:
    sizes_hw = {image.image_id: image.size_hw for image in listed}
    orphans = [entry["image_id"] for entry in entries if entry["image_id"] not in sizes_hw]
    if orphans:
        what = f"{count(len(orphans), 'annotation')} of images that are not listed: image ids {examples(orphans)}"
        yield Finding("broken", what, source, DOWNLOAD_AGAIN)
    crowds = sum(bool(segment.get("iscrowd", 0)) for entry in entries for segment in entry["segments_info"])
    if crowds:
        yield Finding("note", count(crowds, "crowd segment"), source, "Training leaves them out.")
    maps = [
        ListedMap(
            place_map(entry["file_name"]),
            sizes_hw[entry["image_id"]],
            tuple(int(segment["id"]) for segment in entry["segments_info"]),
        )
        for entry in entries
        if entry["image_id"] in sizes_hw
    ]
    found = in_parallel(partial(compare_ids, may_hide=may_hide), maps, name="maps")
    yield from report_maps([m.path for m in maps], found, source=source)


def report_maps(paths: Sequence[Path], found: Sequence[object], *, source: Path) -> Iterator[Finding]:
    """Say which maps are missing and which broken.

    Args:
        paths: the maps.
        found: what a check gave for each of them, FileNotFoundError or InputError where something is wrong.
        source: the file or folder that they belong to.
    """
    missing = [path for path, result in zip(paths, found) if isinstance(result, FileNotFoundError)]
    if missing:
        what = f"{count(len(missing), 'map')} of {len(paths):,} in {source.name} missing: {examples(missing)}"
        yield Finding("missing", what, missing[0].parent, _DOWNLOAD_MAPS)
    broken = {path: result for path, result in zip(paths, found) if isinstance(result, InputError)}
    if broken:
        what = f"{count(len(broken), 'broken map')}: {examples(broken)}; {next(iter(broken.values()))}"
        yield Finding("broken", what, next(iter(broken)).parent, _DOWNLOAD_MAPS)


def compare_ids(segments: ListedMap, *, may_hide: bool) -> Exception | None:
    """What is wrong with a map."""
    if not segments.path.is_file():
        return FileNotFoundError(segments.path)
    try:
        id_map = read_id_map(segments.path)
    except InputError as error:
        return error
    name, stated = segments.path.name, set(segments.ids)
    if id_map.shape != segments.size_hw:
        return InputError(f"{name} has height and width {id_map.shape} but its image {segments.size_hw}.")
    shown = _ids(id_map)
    if not shown <= stated or (shown != stated and not may_hide):
        extra, lacking = sorted(shown - stated), sorted(stated - shown)
        return InputError(
            f"{name} and the JSON differ: ids {examples(extra) or 'none'} are in the PNG alone, "
            f"{examples(lacking) or 'none'} in the JSON alone."
        )
    return None


def _ids(id_map: np.ndarray) -> set[int]:
    """The ids of a map [H,W] but 0; only where a row changes is there anything to sort."""
    changes = id_map[:, 1:][id_map[:, 1:] != id_map[:, :-1]]
    return set(np.unique(np.concatenate([id_map[:, 0], changes])).tolist()) - {0}


def _labels(item: tuple[Path, tuple[int, int] | None], *, values: Mapping[str, int]) -> tuple[int, ...] | Exception:
    """The classes that a map shows, or what is wrong with it; the size that it should have may be unknown."""
    path, size_hw = item
    if not path.is_file():
        return FileNotFoundError(path)
    try:
        return tuple(LabelRegions(path, size_hw or read_size_hw(path), **values).labels().tolist())
    except InputError as error:
        return error
