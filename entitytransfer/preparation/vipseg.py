"""The files that the official scripts make of raw VIPSeg: frames 720 pixels high, RGB maps, and JSON.

The content is the same but for the ids of things, which the official script draws at random. Videos of test have no
maps, and the official script leaves them out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cropformer import InputError, atomic_path, read_image
from entitytransfer.adapter import check_size
from entitytransfer.console import followed
from entitytransfer.predictions import ensure_writable, write_json
from entitytransfer.preparation.processes import first_problems, in_processes
from entitytransfer.preparation.segment_maps import ids_near_colors, write_map
from entitytransfer.readers.coco_json import load_json
from entitytransfer.readers.map_tracks import count_pixels
from entitytransfer.readers.panoptic_png import colors_of_ids
from entitytransfer.readers.vipseg_codes import category_of_segment, read_categories, read_codes, segments_of_codes
from entitytransfer.readers.vipseg_files import ANNOTATED, RawVideo, VipsegFiles

HEIGHT = 720

_FOLDERS = ("images", "panomasks", "panomasksRGB")
_LISTS = ("videos", "annotations")

Entry = dict[str, Any]


@dataclass(frozen=True)
class PreparedVideo:
    """What the JSON files say about a video: its entry among the videos, and that among the annotations."""

    video: Entry
    annotation: Entry


def prepare_split(files: VipsegFiles, split: str, *, workers: int) -> str:
    """Make what is missing of a split, and say in a line what that was.

    The JSON file is written last, so that one that is there is complete; what an interrupted run left is kept.

    Args:
        files: where everything is.
        split: "train" or "val".
        workers: processes.

    Raises:
        InputError: raw files are missing, or damaged, which it says when all other videos are done; or the place
            cannot be written.
    """
    path = files.json(split)
    if path.is_file():
        return f"{path.name} is there already"
    videos, categories = files.complete_videos(split), read_categories(files.categories)
    ensure_writable(files.prepared)
    made = in_processes(partial(_prepare_or_explain, files, categories), videos, workers=workers)
    done = list(followed(made, name="videos", total=len(videos)))
    problems = [one for one in done if isinstance(one, str)]
    if problems:
        raise InputError(
            f"{len(problems)} of the {len(videos)} videos of {split} could not be prepared: "
            f"{first_problems(problems)}. Put these right and start once more; the others are done."
        )
    lists = {"videos": [one.video for one in done], "annotations": [one.annotation for one in done]}
    write_json(path, lists | {"categories": categories})
    return f"{path.name}: {len(videos)} videos"


def join_splits(files: VipsegFiles) -> str:
    """Write the file of all annotated videos from those of the splits, and say so in a line."""
    parts = [load_json(files.json(split), fields=(*_LISTS, "categories")) for split in ANNOTATED]
    lists = {
        name: sorted((one for part in parts for one in part[name]), key=lambda entry: str(entry["video_id"]))
        for name in _LISTS
    }
    write_json(files.json(), lists | {"categories": parts[0]["categories"]})
    return f"{files.json().name}: {len(lists['videos'])} videos"


def prepare_video(files: VipsegFiles, categories: Sequence[Entry], video: RawVideo) -> PreparedVideo:
    """Write the frames and maps of a video, and describe it for the JSON files.

    Args:
        files: where everything is.
        categories: what `read_categories` gives.
        video: one of `VipsegFiles.complete_videos`.

    Raises:
        InputError: a raw file is damaged or of another size than its frame, or the place cannot be written.
    """
    images, code_maps, id_maps = (files.prepared / name / video.name for name in _FOLDERS)
    for folder in (images, code_maps, id_maps):
        folder.mkdir(parents=True, exist_ok=True)
    segments = []
    for stem, image_path, map_path in zip(video.images, files.images_of(video), files.maps_of(video)):
        raw = read_codes(map_path)
        _write_image(images / f"{stem}.jpg", image_path, size_hw=raw.shape)
        codes = np.asarray(Image.fromarray(raw).resize(_smaller(raw.shape), Image.Resampling.NEAREST))
        write_map(code_maps / f"{stem}.png", codes)
        segments.append(segments_of_codes(codes, [category["isthing"] for category in categories]))
    areas = count_pixels(segments)
    ids = dict(zip(areas, _ids(areas, categories)))
    id_of = np.zeros(max(ids, default=0) + 1, dtype=np.int32)
    id_of[list(ids)] = list(ids.values())
    for stem, one in zip(video.images, segments):
        write_map(id_maps / f"{stem}.png", colors_of_ids(id_of[one]))
    infos = [
        [_segment(ids[code], code, int(pixels[frame])) for code, pixels in sorted(areas.items()) if pixels[frame]]
        for frame in range(len(segments))
    ]
    return _describe(video, [one.shape for one in segments], infos)


def _prepare_or_explain(files: VipsegFiles, categories: Sequence[Entry], video: RawVideo) -> PreparedVideo | str:
    """A video, or what is wrong with it."""
    try:
        return prepare_video(files, categories, video)
    except InputError as error:
        return str(error)


def _write_image(path: Path, source: Path, *, size_hw: tuple[int, int]) -> None:
    """Make a frame smaller, with the official filter and Pillow's own JPEG quality, unless it is there."""
    if path.is_file():
        return
    image = read_image(source)
    check_size(source, image.shape[:2], size_hw)
    smaller = Image.fromarray(image).resize(_smaller(size_hw), Image.Resampling.BILINEAR)
    with atomic_path(path) as temporary:
        smaller.save(temporary, format="JPEG")


def _smaller(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a prepared frame."""
    height, width = size_hw
    return int(HEIGHT * width / height), HEIGHT


def _ids(codes: Sequence[int], categories: Sequence[Entry]) -> list[int]:
    """The id of each segment of a video, in the order in which they appear."""
    colors = {category["id"]: category["color"] for category in categories}
    things = {category["id"] for category in categories if category["isthing"]}
    return ids_near_colors(map(category_of_segment, codes), colors=colors, things=things)


def _segment(segment_id: int, code: int, area: int) -> Entry:
    return {"id": segment_id, "category_id": category_of_segment(code), "iscrowd": 0, "area": area}


def _describe(
    video: RawVideo, sizes_hw: Sequence[tuple[int, int]], segments: Sequence[Sequence[Entry]]
) -> PreparedVideo:
    images = [
        {"id": stem, "width": width, "height": height, "file_name": f"{stem}.png"}
        for stem, (height, width) in zip(video.images, sizes_hw)
    ]
    annotations = [
        {"image_id": stem, "file_name": f"{stem}.png", "segments_info": listed}
        for stem, listed in zip(video.images, segments)
    ]
    return PreparedVideo(
        {"video_id": video.name, "images": images}, {"video_id": video.name, "annotations": annotations}
    )
