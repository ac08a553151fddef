"""What VPQ at five windows and STQ cost, next to the plain way that reads the PNGs of every window again.

One generated video of drifting segments with rough outlines, some predicted wrongly. The plain way runs on the first
``--plain-frames`` frames; its seconds are then multiplied up in proportion, which favours it a little, as a shorter
video has fewer windows per frame. Ours is also measured on those frames alone: the column check holds the sum of all
metrics there, and both must have the same. One row for each contender goes to ``results/scoring_video_panoptic.csv``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import RESULTS, alternate, append_row, comparison_rows, cost_of, describe

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.plain_video_panoptic import Frame

MODULE = "benchmarks.scoring_video_panoptic"
CONTENDERS = ("ours", "plain")
WINDOWS = (1, 2, 4, 6, 8)
VIDEO = "clip"
NUM_CLASSES = 8
CATEGORIES = [{"id": number, "name": f"class {number}", "isthing": number % 2} for number in range(NUM_CLASSES)]


def main() -> None:
    """Measure, print the numbers and append them to the results."""
    arguments = parse_arguments()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.folder, plain_frames=arguments.plain_frames)))
        return
    with tempfile.TemporaryDirectory() as folder:
        size = {"size": arguments.size, "frames": arguments.frames, "segments": arguments.segments}
        write_video(Path(folder), **size)
        passed = ["--folder", folder, "--plain-frames", str(arguments.plain_frames)]
        runs = alternate(MODULE, CONTENDERS, passed, repeats=arguments.repeats)
        case = {"case": "VPQ at 5 windows + STQ", **size}
        for row in comparison_rows(MODULE, case, runs, peer="plain"):
            print(describe(row))
            if not arguments.dry_run:
                append_row(arguments.out, row)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1280x720", help="WIDTHxHEIGHT of the frames")
    parser.add_argument("--frames", type=int, default=192, help="length of the video")
    parser.add_argument("--segments", type=int, default=20, help="segments of a frame")
    parser.add_argument("--plain-frames", type=int, default=16, help="frames that the plain way is run on, 8 or more")
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes for each contender")
    parser.add_argument("--out", type=Path, default=RESULTS / "scoring_video_panoptic.csv", help="CSV to append to")
    parser.add_argument("--dry-run", action="store_true", help="print only; write no row")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)  # the fresh process
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(contender: str, folder: Path, *, plain_frames: int) -> dict[str, float | int]:
    """Score the video in this process and say what it took."""
    from entitytransfer.readers.vipseg_json import read_vipseg_truth
    from entitytransfer.score_task import score

    truth = read_vipseg_truth(folder / "gt.json", folder / "gt")
    frames = len(truth.clips[VIDEO])
    first = write_first(folder, plain_frames)
    if contender == "ours":
        checked = score("vipseg", ground_truth=first, predictions=folder / "first", gt_dir=folder / "gt")
        check = sum(checked[f"VPQ_{window}"] for window in WINDOWS) + checked["AQ"] + checked["SQ"]
        _, cost = cost_of(
            lambda: score("vipseg", ground_truth=folder / "gt.json", predictions=folder, gt_dir=folder / "gt")
        )
        return cost | {"check": round(check, 9), "frames_run": frames, "cpu_s_per_frame": cost["cpu_s"] / frames}
    truths, predictions = (plain_frames_of(folder, kind)[:plain_frames] for kind in ("gt", "pred"))
    check, cost = cost_of(lambda: plain_metrics(truths, predictions))
    per_frame = cost["cpu_s"] / len(truths)
    scaled = {name: cost[name] * frames / len(truths) for name in ("cpu_s", "wall_s")}
    return cost | scaled | {"check": round(check, 9), "frames_run": len(truths), "cpu_s_per_frame": per_frame}


def plain_metrics(truths: list[Frame], predictions: list[Frame]) -> float:
    """VPQ of every window, AQ and SQ, added up."""
    import numpy as np

    from benchmarks.plain_video_panoptic import video_pq, video_stq

    is_thing = np.array([bool(one["isthing"]) for one in CATEGORIES])
    total = sum(video_stq(truths, predictions, is_thing=is_thing))
    for window in WINDOWS:
        counts = video_pq(truths, predictions, window=window, num_classes=NUM_CLASSES)
        counts = counts[counts[:, 1:].any(axis=1)]
        total += float((counts[:, 0] / (counts[:, 1:] @ [1, 0.5, 0.5])).mean())
    return total


def plain_frames_of(folder: Path, kind: str) -> list[Frame]:
    """The frames of a JSON as the plain way takes them."""
    import numpy as np
    from PIL import Image

    def reader(path: Path) -> np.ndarray:
        rgb = np.asarray(Image.open(path), dtype=np.uint32)
        return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]

    png_dir = folder / {"gt": "gt", "pred": "pan_pred"}[kind] / VIDEO
    (video,) = json.loads((folder / f"{kind}.json").read_text())["annotations"]
    return [
        (
            lambda path=png_dir / frame["file_name"]: reader(path),
            {one["id"]: (one["category_id"], one["area"], bool(one["iscrowd"])) for one in frame["segments_info"]},
        )
        for frame in video["annotations"]
    ]


def write_video(folder: Path, *, size: str, frames: int, segments: int) -> None:
    """Write gt.json, gt/, pred.json and pan_pred/ in the layout of VIPSeg."""
    from entitytransfer.writers.panoptic import VipsegWriter

    width, height = (int(side) for side in size.split("x"))
    categories = {number: number * 7 % NUM_CLASSES for number in range(1, segments + 1)}
    confused = categories | {1: (categories[1] + 1) % NUM_CLASSES}
    with VipsegWriter(folder / "truth") as truth, VipsegWriter(folder) as predicted:
        for index in range(frames):
            ids = make_frame(index, (height, width), segments=segments)
            truth.write(VIDEO, ids, categories, name=f"{index:05d}")
            moved = make_frame(index, (height, width), segments=segments, shift=height // 60, void=segments)
            predicted.write(VIDEO, moved, confused, name=f"{index:05d}")
    (folder / "truth" / "pan_pred").rename(folder / "gt")
    (content,) = json.loads((folder / "truth" / "pred.json").read_text())["annotations"]
    images = [
        {"id": frame["file_name"][:-4], "file_name": frame["file_name"], "width": width, "height": height}
        for frame in content["annotations"]
    ]
    videos = [{"video_id": VIDEO, "images": images}]
    truth_json = {"videos": videos, "annotations": [content], "categories": CATEGORIES}
    (folder / "gt.json").write_text(json.dumps(truth_json))


def write_first(folder: Path, frames: int) -> Path:
    """The same files with the first frames only; the path of the ground truth."""
    (folder / "first").mkdir(exist_ok=True)
    if not (folder / "first" / "pan_pred").exists():
        (folder / "first" / "pan_pred").symlink_to(folder / "pan_pred")
    for kind in ("gt", "pred"):
        content = json.loads((folder / f"{kind}.json").read_text())
        for video in content["annotations"] + content.get("videos", []):
            for field in {"images", "annotations"} & video.keys():
                del video[field][frames:]
        (folder / "first" / f"{kind}.json").write_text(json.dumps(content))
    return folder / "first" / "gt.json"


def make_frame(index: int, size_hw: tuple[int, int], *, segments: int, shift: int = 0, void: int = 0) -> np.ndarray:
    """Segment ids of a frame, int64 [H,W]: rough regions around drifting centres; the one called ``void`` is 0."""
    import numpy as np
    from scipy import ndimage

    height, width = size_hw
    generator = np.random.default_rng(0)
    centres = generator.uniform(0, 1, (segments, 2)) * size_hw
    centres += generator.normal(0, 0.001, (segments, 2)) * size_hw * index + [shift, 0]
    coarse = generator.normal(0, 1, (height // 8 + 1, width // 8 + 1)).astype(np.float32)
    rough = ndimage.zoom(coarse, 8, order=1)[:height, :width] * (height**2 / 100)
    best, ids = np.full(size_hw, np.inf, dtype=np.float32), np.zeros(size_hw, dtype=np.int64)
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    for number, (row, column) in enumerate(centres.astype(np.float32), start=1):
        distance = (rows - row) ** 2 + (columns - column) ** 2 + rough * (number % 3)
        ids[distance < best] = number
        best = np.minimum(best, distance)
    ids[ids == void] = 0
    return ids


if __name__ == "__main__":
    main()
