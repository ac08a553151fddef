"""What clips cost: frames per second by window size, the peak memory of long clips, and the ways frame by frame.

Three parts, a file of results for each; every run is a fresh process, and loading the model is not counted.

- windows: the bundled clip at the size of the case, segmented and written (overlay, id images, tracks) by windows of 1,
  2, 4 and 8 frames, of which two share one. Views have the size of the clip. Where the CPU time goes is told in shares:
  decoding, network with the making of views, head (fusion and run lengths), linking, and writing. Windows are written
  one after the other, while the command writes beside the network, so that shares add up.
- peers: windows of 4 next to the image pipeline frame by frame, with crops and without, and to Mask2Former of the
  transformers library frame by frame; all with the same linking, nothing is written. One pair of rows for each peer.
- memory: the whole ``segment`` command on a small clip, 96x64 pixels, looped to a length.

Weights are random where none are bundled, and every query is asked for its mask, the costliest case.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from benchmarks.common import RESULTS, alternate, append_row, comparison_rows, cost_of, describe

MODULE = "benchmarks.video"
WINDOWS = {"window 1": 1, "window 2": 2, "window 4": 4, "window 8": 8}
OURS = "ours"
PHOTOS = {"photos, 4 crops": 4, "photos, no crops": 0}
TRANSFORMERS = "transformers"
COMMAND = "segment"
REPEATS = {"windows": 1, "peers": 2, "memory": 1}


@dataclass(frozen=True)
class Case:
    """A model and a clip: ``size`` is WIDTHxHEIGHT."""

    model: str
    size: str
    frames: int

    @classmethod
    def parse(cls, text: str) -> Case:
        """From MODEL,SIZE,FRAMES."""
        model, size, frames = text.split(",")
        return cls(model, size, int(frames))

    @property
    def text(self) -> str:
        """What ``parse`` reads."""
        return f"{self.model},{self.size},{self.frames}"

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the clip."""
        width, height = (int(side) for side in self.size.split("x"))
        return height, width

    @property
    def peers(self) -> tuple[str, ...]:
        """Ways frame by frame at equal size; the library has no network like nano's."""
        return PHOTOS if self.model == "nano" else (*PHOTOS, TRANSFORMERS)


CASES = {
    "windows": [Case(model, size, 8) for model in ("nano", "swin_t") for size in ("640x360", "854x480", "1280x720")],
    "peers": [Case("nano", "640x360", 7), Case("swin_t", "640x360", 7)],
    "memory": [Case("nano", "96x64", frames) for frames in (100, 1000, 5000)],
}
QUICK = {
    "windows": [Case("nano", "96x64", 3)],
    "peers": [Case("nano", "96x64", 3)],
    "memory": [Case("nano", "96x64", frames) for frames in (3, 6)],
}


def main() -> None:
    """Measure every case of every part, print the numbers and append them to the results."""
    arguments = parse_arguments()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.case[0], arguments.clip)))
        return
    for part in arguments.parts:
        cases = arguments.case or (QUICK if arguments.quick else CASES)[part]
        path = arguments.out / ("video.csv" if part == "windows" else f"video_{part}.csv")
        for row in measure_part(part, cases, repeats=arguments.repeats or REPEATS[part]):
            print(describe(row), flush=True)
            if not arguments.dry_run:
                append_row(path, row)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(CASES), choices=list(CASES), help="what to measure")
    parser.add_argument(
        "--case", nargs="+", type=Case.parse, help="instead of those of the part: MODEL,WIDTHxHEIGHT,FRAMES"
    )
    parser.add_argument("--quick", action="store_true", help="tiny cases, to see that everything runs")
    parser.add_argument(
        "--repeats", type=int, help=f"fresh processes for each case and contender; default: {REPEATS}".replace("'", "")
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the CSVs to append to")
    parser.add_argument("--dry-run", action="store_true", help="print only; write no row")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the fresh process
    parser.add_argument("--clip", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure_part(part: str, cases: list[Case], *, repeats: int) -> Iterator[dict[str, object]]:
    """The rows of a part, case by case; those of ``memory`` say how the peak compares with that of the first."""
    measure_case = {"windows": window_rows, "peers": peer_rows, "memory": memory_rows}[part]
    first_gib = None
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            clip = make_clip(Path(folder) / "clip.mp4", case)
            run = partial(alternate, MODULE, arguments=["--case", case.text, "--clip", str(clip)], repeats=repeats)
            for row in measure_case(case, run):
                if part == "memory":
                    first_gib = first_gib or row["peak_gib_median"]
                    row["peak_growth"] = round(row["peak_gib_median"] / first_gib, 4)
                yield row


def window_rows(case: Case, run: partial) -> list[dict[str, object]]:
    """One row for each window size."""
    runs = run(WINDOWS)
    return [with_speed(row, runs) for row in comparison_rows(MODULE, asdict(case), runs, peer="")]


def peer_rows(case: Case, run: partial) -> list[dict[str, object]]:
    """Ours and the peer, for each peer."""
    runs = run((OURS, *case.peers))
    rows = []
    for peer in case.peers:
        pair = {name: runs[name] for name in (OURS, peer)}
        rows += comparison_rows(MODULE, asdict(case) | {"against": peer}, pair, peer=peer)
    return [with_speed(row, runs) for row in rows]


def memory_rows(case: Case, run: partial) -> list[dict[str, object]]:
    """One row."""
    return comparison_rows(MODULE, asdict(case), run((COMMAND,)), peer="")


def with_speed(row: dict[str, object], runs: dict[str, list[dict[str, object]]]) -> dict[str, object]:
    """A row with what follows from its medians, and with the shares of all its runs, averaged."""
    measured = runs[row["contender"]]
    shares = [name for name in measured[0] if name.endswith("_share")]
    return {
        **row,
        "frames_per_s": round(row["frames"] / row["wall_s_median"], 3),
        "cpu_s_per_frame": round(row["cpu_s_median"] / row["frames"], 4),
        **{name: round(statistics.mean(run[name] for run in measured), 4) for name in shares},
    }


def make_clip(path: Path, case: Case) -> Path:
    """The bundled clip at another size and length, again and again if need be."""
    import cv2

    from entitytransfer.demo import CLIP
    from entitytransfer.readers.video import VideoReader
    from entitytransfer.writers.video import VideoWriter

    height, width = case.size_hw
    images = [cv2.resize(frame.image, (width, height)) for frame in islice(VideoReader(CLIP.path), case.frames)]
    with VideoWriter(path, fps=25, size_hw=case.size_hw) as video:
        for image in islice(cycle(images), case.frames):
            video.write(image)
    return path


# --- the fresh process


def measure(contender: str, case: Case, clip: Path) -> dict[str, object]:
    """Segment one clip in this process and say what it took."""
    with tempfile.TemporaryDirectory() as folder:
        if contender == COMMAND:
            return measure_command(clip, Path(folder))
        return measure_way(contender, case, clip, Path(folder))


def measure_way(contender: str, case: Case, clip: Path, folder: Path) -> dict[str, object]:
    """One of the ways through a clip, with views of the clip's size."""
    import torch

    from benchmarks import inference, video_ways

    watch = video_ways.Stopwatch()
    sides = {"short_side": min(case.size_hw), "max_side": max(case.size_hw)}
    model, weights = (None, "random") if contender == TRANSFORMERS else inference.load_model(inference.Case(case.model))
    if contender == TRANSFORMERS:
        call = video_ways.transformers_photos(clip, watch, sides=sides)
    elif contender in PHOTOS:
        call = video_ways.photos(model, clip, watch, crops=PHOTOS[contender], sides=sides)
    else:
        written = folder if contender in WINDOWS else None
        call = video_ways.windowed(model, clip, watch, window=WINDOWS.get(contender, 4), sides=sides, folder=written)
    tracks, cost = cost_of(call)
    shares = watch.shares(cost["cpu_s"])
    return {**cost, **shares, "tracks": tracks, "weights": weights, "threads": torch.get_num_threads()}


def measure_command(clip: Path, folder: Path) -> dict[str, object]:
    """``entitytransfer segment`` on a clip."""
    import torch

    from entitytransfer.cli import main as command

    torch.set_num_threads(1)  # more would mostly wait for each other, so small is the clip
    arguments = ["segment", str(clip), "--out", str(folder), "--short-side", "32", "--device", "cpu"]
    with redirect_stdout(sys.stderr):
        code, cost = cost_of(lambda: command(arguments))
    if code:
        raise RuntimeError(f"the command failed on {clip}")
    return cost | {"threads": torch.get_num_threads()}


if __name__ == "__main__":
    main()
