"""Tiny YouTube-VIS, UVO and VIPSeg on disk, in the exact published layouts, with the clips of ``moving_clips``."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from cropformer import rle
from entitytransfer.writers.video import VideoWriter

from .moving_clips import MovingClip, moving_clip

METRICS = Path(__file__).parents[1] / "data" / "metrics"
# Names of videos of YouTube-VIS; by their hashes every second one is in the held-out part.
NAMES = ("174400f744", "38b17acbcc", "2c6437e89e", "8e483735b0", "652295717d", "27cba7fcb4", "4bebe06c5b", "c2a9f87b15")
YTVIS_NAMES = {"person": "person", "refrigerator": "truck"}
YTVIS_STEP, VIPSEG_STEP, SPARSE_STEP = 5, 6, 2  # from one frame to the next in the names of files
YTIDS = tuple(f"-{name[:9]}_" for name in NAMES)
VIPSEG_SIZE_HW = (48, 64)
VIPSEG_NAMES = tuple(f"{number * 37}_{name}" for number, name in enumerate(NAMES, start=2))
VIPSEG_STUFF = {
    "sky-other-merged": "sky",
    "pavement-merged": "road",
    "building-other-merged": "building",
    "bridge": "bridge",
    "river": "river",
    "tree-merged": "tree",
}
THING_CODE = 100  # of VIPSeg: a pixel of a thing is its class times this, plus its number
SIZE_HW = (96, 128)


def make_ytvis_tree(
    root: Path, *, version: str = "2019", clips: int = 2, frames: int = 6, size_hw: tuple[int, int] = SIZE_HW
) -> Path:
    """Write ``ytvis_VERSION`` and return ``root``: clips of train, every second of them held out, and one of valid.

    Args:
        root: made if needed.
        version: "2019", or "2021" with its other names of files.
        clips: of train, up to seven.
        frames: of each clip, at least three.
        size_hw: of each frame.
    """
    home = root / f"ytvis_{version}"
    for split, numbers in (("train", range(clips)), ("valid", range(clips, clips + 1))):
        shown = {number: moving_clip(number, frames=frames, size_hw=size_hw) for number in numbers}
        names = {
            number: _frame_names(NAMES[number], frames, step=YTVIS_STEP, digits=5, suffix="jpg") for number in shown
        }
        for number, clip in shown.items():
            _save_frames(home / split / "JPEGImages", names[number], clip.images)
        videos = [_video(number, names[number], clip) for number, clip in shown.items()]
        content = {
            "info": {},
            "licenses": [],
            "videos": videos,
            "categories": _categories("ytvis/ytvis_2019/valid.json"),
        }
        if split == "train":
            ids = {category["name"]: category["id"] for category in content["categories"]}
            labels = {number: [ids[YTVIS_NAMES[name]] for name in clip.names] for number, clip in shown.items()}
            content["annotations"] = _tracks(shown, labels)
        _write_json(home / (f"{split}.json" if version == "2019" else f"{split}/instances.json"), content)
    return root


def make_uvo_tree(
    root: Path,
    *,
    clips: int = 2,
    frames: int = 6,
    size_hw: tuple[int, int] = SIZE_HW,
    mp4: bool = False,
) -> Path:
    """Write the dense, the sparse and the frame set, so many clips in train and one in val, and return ``root``.

    The sparse set annotates every second frame of the dense clips, the frame set the last one of each.

    Args:
        root: made if needed.
        clips: of train, up to seven.
        frames: of each clip, at least three.
        size_hw: of each frame.
        mp4: write the videos as they are published, and no frames.
    """
    for split, numbers in (("train", range(clips)), ("val", range(clips, clips + 1))):
        shown = {number: moving_clip(number, frames=frames, size_hw=size_hw) for number in numbers}
        names = {number: _frame_names(YTIDS[number], frames, suffix="png") for number in shown}
        for number, clip in shown.items():
            for kind in ("dense", "sparse"):
                _save_clip(root / f"uvo_videos_{kind}", names[number], clip, mp4=mp4)
        _write_dense(root / "VideoDenseSet" / f"UVO_video_{split}_dense", shown, names)
        _write_sparse(root / "VideoSparseSet" / f"UVO_sparse_{split}_video.json", shown, names)
        _write_frame_set(root / "FrameSet" / f"UVO_frame_{split}.json", shown, names)
    return root


def make_vipseg_tree(root: Path, *, clips: int = 2, frames: int = 6, size_hw: tuple[int, int] = SIZE_HW) -> Path:
    """Write raw ``VIPSeg``: so many clips in train, one in val and one, without masks, in test; return ``root``.

    Args:
        root: made if needed.
        clips: of train, up to six.
        frames: of each clip, at least three.
        size_hw: of each frame.
    """
    home = root / "VIPSeg"
    categories = _categories("vipseg/VIPSeg_720P/panoptic_gt_VIPSeg_val.json")
    ids = {category["name"]: category["id"] for category in categories}
    splits = {"train": range(clips), "val": range(clips, clips + 1), "test": range(clips + 1, clips + 2)}
    for split, numbers in splits.items():
        for number in numbers:
            clip = moving_clip(number, frames=frames, size_hw=size_hw)
            names = _frame_names(VIPSEG_NAMES[number], frames, step=VIPSEG_STEP, digits=8, suffix="jpg")
            _save_frames(home / "imgs", names, clip.images)
            if split != "test":
                maps = [name.replace(".jpg", ".png") for name in names]
                _save_frames(home / "panomasks", maps, _vipseg_codes(clip, ids))
        (home / f"{split}.txt").write_text("".join(f"{VIPSEG_NAMES[number]}\n" for number in numbers))
    _write_json(home / "panoVIPSeg_categories.json", categories)
    return root


def _vipseg_codes(clip: MovingClip, ids: dict[str, int]) -> np.ndarray:
    """The raw codes, uint16 [F,H,W]: 0 = nothing, a class id from 1, or of a thing that times 100 plus its number."""
    codes = np.zeros((len(clip.images), *clip.size_hw), dtype=np.uint16)
    for index, name in enumerate(clip.stuff_names):
        codes[clip.stuff[:, index]] = ids[VIPSEG_STUFF[name]] + 1
    for index, name in enumerate(clip.names):
        codes[clip.tracks[:, index]] = (ids[name] + 1) * THING_CODE + clip.names[:index].count(name)
    return codes


def _write_dense(stem: Path, shown: dict[int, MovingClip], names: dict[int, list[str]]) -> None:
    """The class-agnostic file, and the one with labels."""
    videos = [_video(number, names[number], clip) | {"ytid": YTIDS[number]} for number, clip in shown.items()]
    kinds = ["object"], ["person", "refrigerator", "other"]
    for categories, path in zip(kinds, (stem.with_suffix(".json"), stem.with_name(f"{stem.name}_with_label.json"))):
        labels = {
            number: [categories.index(name) + 1 if name in categories else 1 for name in clip.names]
            for number, clip in shown.items()
        }
        listed = [{"id": k, "name": name, "supercategory": "object"} for k, name in enumerate(categories, start=1)]
        _write_json(path, {"videos": videos, "categories": listed, "annotations": _tracks(shown, labels)})


def _write_sparse(path: Path, shown: dict[int, MovingClip], names: dict[int, list[str]]) -> None:
    """Only every second frame is listed, as UVO lists one frame of a second."""
    every = slice(None, None, SPARSE_STEP)
    kept = {
        n: MovingClip(c.images[every], c.tracks[every], c.names, c.stuff[every], c.stuff_names)
        for n, c in shown.items()
    }
    videos = [_video(number, names[number][every], clip) | {"ytid": YTIDS[number]} for number, clip in kept.items()]
    labels = {number: [1] * len(clip.names) for number, clip in kept.items()}
    content = {"videos": videos, "categories": [{"id": 1, "name": "object"}], "annotations": _tracks(kept, labels)}
    _write_json(path, content)


def _write_frame_set(path: Path, shown: dict[int, MovingClip], names: dict[int, list[str]]) -> None:
    images, annotations = [], []
    for number, clip in shown.items():
        height, width = clip.size_hw
        images.append({"id": number + 1, "file_name": names[number][-1], "height": height, "width": width})
        for mask in clip.tracks[-1]:
            entry = {"id": len(annotations) + 1, "image_id": number + 1, "category_id": 1, "iscrowd": 0}
            annotations.append(entry | {"area": int(mask.sum()), "segmentation": rle.encode(mask)})
    content = {"images": images, "categories": [{"id": 1, "name": "object"}], "annotations": annotations}
    _write_json(path, content)


def _tracks(shown: dict[int, MovingClip], category_ids: dict[int, list[int]]) -> list[dict]:
    """The tracks of several clips as YouTube-VIS writes them: runs that are not compressed, null where it is absent."""
    entries = []
    for number, clip in shown.items():
        height, width = clip.size_hw
        for index, category_id in enumerate(category_ids[number]):
            frames = [_frame_entry(mask) for mask in clip.tracks[:, index]]
            lists = dict(zip(("segmentations", "bboxes", "areas"), map(list, zip(*frames))))
            entry = {"id": len(entries) + 1, "video_id": number + 1, "category_id": category_id, "iscrowd": 0}
            entries.append(entry | {"height": height, "width": width, "length": 1} | lists)
    return entries


def _frame_entry(mask: np.ndarray) -> tuple[dict | None, list[int] | None, int | None]:
    """Segmentation, box and area of a track in one frame."""
    if not mask.any():
        return None, None, None
    encoded = rle.encode(mask)
    left, top, right, bottom = rle.bounding_box_xyxy(encoded).astype(int).tolist()
    runs = {"size": encoded["size"], "counts": rle.runs(encoded).tolist()}
    return runs, [left, top, right - left, bottom - top], int(mask.sum())


def _video(number: int, names: list[str], clip: MovingClip) -> dict:
    height, width = clip.size_hw
    return {"id": number + 1, "width": width, "height": height, "length": len(names), "file_names": names}


def _frame_names(video: str, frames: int, *, step: int = 1, digits: int = 1, suffix: str) -> list[str]:
    return [f"{video}/{step * index:0{digits}d}.{suffix}" for index in range(frames)]


def _save_clip(place: Path, names: list[str], clip: MovingClip, *, mp4: bool) -> None:
    """Write a video of UVO, or the frames that its script extracts from it."""
    if not mp4:
        _save_frames(place.with_name(f"{place.name}_frames"), names, clip.images)
        return
    place.mkdir(parents=True, exist_ok=True)
    with VideoWriter(place / f"{Path(names[0]).parent}.mp4", fps=30, size_hw=clip.size_hw) as video:
        for image in clip.images:
            video.write(image)


def _save_frames(folder: Path, names: Sequence[str], images: np.ndarray) -> None:
    for name, image in zip(names, images):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


@cache
def _categories(file: str) -> list[dict]:
    """The official categories, as a fixture of the metrics has them."""
    return json.loads((METRICS / file).read_text())["categories"]


def _write_json(path: Path, content: dict | list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
