"""``entitytransfer score``."""

import argparse
from collections.abc import Callable
from pathlib import Path

from entitytransfer.commands.parsing import Commands, add_command, at_least

NOT_OPTIONS = ("run", "debug", "task", "gt", "pred", "json")


def add_to(commands: Commands) -> None:
    """Add the command. An option that is left out is not handed over: its default is in the file of the task."""
    parser = add_command(
        commands, "score", _run, summary="score the result files of any model, as the official tools do"
    )
    add = parser.add_argument
    add("task", metavar="TASK", help=f"one of {', '.join(_tasks())}")
    add("--gt", type=Path, required=True, metavar="PATH", help="annotations: file or folder in the official layout")
    add("--pred", type=Path, required=True, metavar="PATH", help="results: file or folder in the official layout")
    add("--json", type=Path, metavar="OUT", help="write metrics and protocol to this file")
    parser.argument_default = argparse.SUPPRESS
    add("--bootstrap", type=at_least(1), metavar="N", help="95 %% confidence intervals from N resamplings")
    add("--seed", type=at_least(0), metavar="N", help="of the resampling; 0 if left out")
    _add_detection_options(parser)
    _add_recall_options(parser)
    _add_panoptic_options(parser)
    _add_map_options(parser)


def _add_detection_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("entity, instance, lvis, recall, ytvis, uvo").add_argument
    add("--max-dets", type=_numbers(int), metavar="N,...", help="predictions per image or video; 1,10,100 if left out")
    add("--iou-thresholds", type=_numbers(float), metavar="T,...", help="0.5,0.55,...,0.95 if left out; recall: 0.5")
    add("--top-k", type=at_least(1), metavar="N", help="keep only the N best predictions of an image or video")
    add("--overlap", metavar="HOW", help="entity, recall: keep (used if left out), or remove shared pixels")
    add("--no-boundary", action="store_false", dest="boundary", help="entity, instance: leave boundary AP out")
    add("--image-list", type=Path, metavar="FILE", help="count only the images or videos whose ids are in this file")
    add("--class-agnostic", action="store_true", help="ytvis, panoptic, vipseg: all count as one class")


def _add_recall_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("recall").add_argument
    add("--format", metavar="NAME", help="coco (used if left out), lvis, ocid, camo or fss")
    add("--average", metavar="HOW", help="pooled over all ground truth (used if left out), or mean over images")
    add("--supports", metavar="HOW", help="ocid: drop (used if left out) or keep floor and table")
    add("--split", metavar="NAME", help="fss: test (used if left out) or all; dis5k: DIS-VD (if left out), or NAME,...")


def _add_panoptic_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("panoptic, semantic, vipseg").add_argument
    add("--gt-dir", type=Path, metavar="DIR", help="folder of the PNGs of the annotations")
    add("--pred-dir", type=Path, metavar="DIR", help="folder of the PNGs of the results")
    add("--boundary", action="store_true", help="panoptic: boundary PQ as well")
    add("--windows", type=_numbers(int), metavar="N,...", help="vipseg: frames of VPQ; 1,2,4,6 if left out")
    add("--stq-mode", metavar="HOW", help="vipseg: official (used if left out), or corrected")
    add("--num-classes", type=at_least(1), metavar="K", help="semantic: every label must be below this")
    add("--ignore", type=at_least(0), metavar="ID", help="semantic: label that is not scored; 255 if left out")
    add("--workers", type=at_least(1), metavar="N", help="threads; as many as processors if left out")


def _add_map_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("dis5k").add_argument
    add("--no-hce", action="store_false", dest="hce", help="leave the human correction effort out")
    add("--relax", type=at_least(0), metavar="N", help="HCE: erosions that errors must survive; 5 if left out")
    add("--epsilon", type=float, metavar="PIXELS", help="HCE: tolerance of polygons; 2 if left out")
    add("--skeletons", type=Path, metavar="DIR", help="HCE: keep the skeletons of the ground truth here")


def _tasks() -> list[str]:
    """The files of the scoring folder; asking the package itself would import torch."""
    folder = Path(__file__).parents[1] / "scoring"
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def _numbers(kind: type[int] | type[float]) -> Callable[[str], tuple[float, ...]]:
    def numbers(text: str) -> tuple[float, ...]:
        try:
            return tuple(kind(part) for part in text.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(f"give numbers with commas between them, not {text!r}") from None

    return numbers


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.score_task import score_task

    options = {name: value for name, value in vars(arguments).items() if name not in NOT_OPTIONS}
    result = score_task(arguments.task, ground_truth=arguments.gt, predictions=arguments.pred, **options)
    if arguments.json is not None:
        result.save(arguments.json)
    print(result.table())
    return 0
