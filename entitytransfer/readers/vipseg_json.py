"""VIPSeg ground truth and results: JSON of videos and a PNG of segment ids for each frame; ids last through a video."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cropformer import InputError
from entitytransfer.readers.coco_json import load_json
from entitytransfer.readers.panoptic_frames import (
    PanopticFrame,
    PanopticSet,
    new_clip,
    read_classes,
    read_predicted_segments,
    read_true_segments,
    text_field,
)
from entitytransfer.readers.records import Id, Record, records, shown


def read_vipseg_truth(path: Path, png_dir: Path) -> PanopticSet:
    """Read ``panoptic_gt_VIPSeg_val.json`` and its like.

    Args:
        path: the JSON, with videos, annotations and categories.
        png_dir: the folder with a folder of PNGs for each video.

    Raises:
        InputError: the file is not that, or a record is damaged or contradicts another; with file and record.
    """
    return vipseg_truth(load_json(path, fields=("videos", "annotations", "categories")), png_dir, source=path)


def vipseg_truth(content: Mapping[str, Any], png_dir: Path, *, source: Path) -> PanopticSet:
    """What `read_vipseg_truth` gives of a file that is loaded already; ``source`` is its path."""
    classes = read_classes(content["categories"], source=source)
    sizes_hw = {}
    for one in records(content["videos"], source=source, kind="video"):
        sizes_hw[new_clip(one, "video_id", seen=sizes_hw)] = _sizes_hw(one)
    videos = {}
    for one in records(content["annotations"], source=source, kind="annotation"):
        video_id = new_clip(one, "video_id", seen=videos, known=sizes_hw)
        of_video = sizes_hw[video_id]
        videos[video_id] = {
            name: PanopticFrame(png_dir / str(video_id) / file_name, read_true_segments(entry, classes), of_video[name])
            for name, (file_name, entry) in _frames(one, of_video, place="among the images of the video").items()
        }
        unannotated = of_video.keys() - videos[video_id].keys()
        if unannotated:
            raise one.error(f"the frame {shown(min(unannotated))} of {shown(video_id)} has no annotation")
    _check_annotated(source, sizes_hw, videos)
    return PanopticSet(source, classes, videos)


def read_vipseg_results(path: Path, png_dir: Path, truth: PanopticSet, *, any_category: bool = False) -> PanopticSet:
    """Read ``pred.json`` for this ground truth; frames are found by the stem of their ``file_name``.

    Args:
        path: the JSON, with annotations.
        png_dir: ``pan_pred``, a folder with a folder of PNGs for each video.
        truth: what the predictions are about.
        any_category: see `read_predicted_segments`.

    Raises:
        InputError: the file is not that, a video or frame is missing, unknown or there twice, or a record is damaged.
    """
    content = load_json(path, fields=("annotations",))
    videos = {}
    for one in records(content["annotations"], source=path, kind="prediction"):
        video_id = new_clip(one, "video_id", seen=videos, known=truth.clips)
        found = _frames(one, truth.clips[video_id], place="in the ground truth")
        videos[video_id] = {
            name: PanopticFrame(
                png_dir / str(video_id) / file_name,
                read_predicted_segments(entry, truth.classes, any_category=any_category),
            )
            for name, (file_name, entry) in found.items()
        }
    results = PanopticSet(path, truth.classes, videos)
    results.check_complete(truth)
    return results


def _sizes_hw(video: Record) -> dict[str, tuple[int, int]]:
    """Size of each frame by its name."""
    images = records(video.field("images"), source=video.source, kind=f"{video.kind} {video.index}, image")
    return {Path(text_field(image, "file_name")).stem: image.size_hw() for image in images}


def _frames(video: Record, known: Collection[str], *, place: str) -> dict[str, tuple[str, Record]]:
    """File name and record of each frame of a video by its name, which must be ``known``, in the order of the file."""
    frames: dict[str, tuple[str, Record]] = {}
    kind = f"{video.kind} {video.index}, frame"
    for entry in records(video.field("annotations"), source=video.source, kind=kind):
        file_name = text_field(entry, "file_name")
        name = Path(file_name).stem
        if name in frames:
            raise entry.error(f"the frame {shown(name)} was there before")
        if name not in known:
            raise entry.error(f"the frame {shown(name)} is not {place}")
        frames[name] = (file_name, entry)
    return frames


def _check_annotated(path: Path, listed: Mapping[Id, object], videos: Mapping[Id, object]) -> None:
    for video_id in listed:
        if video_id not in videos:
            raise InputError(f"{path} lists the video {shown(video_id)} without annotations; remove or annotate it.")
