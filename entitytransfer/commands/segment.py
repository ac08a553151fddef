"""``entitytransfer segment``."""

import argparse
from pathlib import Path

from entitytransfer.commands.parsing import Commands, add_command, add_model_arguments, at_least, score, seconds, shard
from entitytransfer.commands.reporting import report

_PATHS = (
    "photo, video, folder (with its sub-folders) or glob; frames/%%05d.png for numbered frames of one clip; "
    "- for a video on the standard input (MPEG-TS, Matroska or fragmented mp4); "
    "@clips.txt for a list, one path on each line"
)
_CROPS = "crops beside the full view: 0, 4 corners, 8, or N in a row; 0 for videos if left out"
_BACKENDS = ("pyav", "decord", "torchcodec", "opencv")
_HEADS = ("entity", "instance", "panoptic")


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "segment", _run, summary="segment every entity in photos and videos")
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help=_PATHS)
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the outputs, made if needed")
    add("--format", metavar="NAMES", help="some of overlay,ids,coco,panoptic,ytvis,vipseg; all if left out")
    add("--min-score", type=score, metavar="P", help="leave out entities below this score, 0 to 1")
    add("--short-side", type=at_least(1), metavar="N", help="pixels of the shorter side that the model sees")
    add("--max-side", type=at_least(1), metavar="N", help="bound on the longer side")
    add("--resume", action="store_true", help="skip inputs whose outputs all exist, and go on with unfinished videos")
    add(
        "--shard",
        type=shard,
        metavar="i/n",
        help="do only the i-th of n equal parts; with launch, one for each process",
    )
    add_model_arguments(parser)
    add("--compile", action="store_true", help="compile the backbone first; pays for many inputs of few sizes")
    add("--crops", type=at_least(0), metavar="N", help=_CROPS)
    add("--max-memory", metavar="SIZE", help="bound on the memory of network and fusion, such as 2GB")
    add("--precision", choices=("fp32", "bf16"), default="fp32", help="of the network; bf16 is less exact")
    add = parser.add_argument_group("photos").add_argument
    add("--batch-size", type=at_least(1), default=1, metavar="N", help="photos of one shape in the model at once")
    videos = parser.add_argument_group("videos")
    add = videos.add_argument
    add("--stride", type=at_least(1), default=1, metavar="N", help="take every N-th frame")
    add("--start-frame", type=at_least(0), default=0, metavar="N", help="first frame, counted from 0")
    add("--end-frame", type=at_least(1), metavar="N", help="stop before this frame")
    add("--start-time", type=seconds, default=0.0, metavar="T", help="take no frame before this: seconds, or h:m:s")
    add("--end-time", type=seconds, metavar="T", help="stop at this time")
    add("--frames", action="store_true", help="the images of a folder are the frames of one video, not photos")
    add("--backend", choices=_BACKENDS, default="pyav", help="what decodes video files")
    add("--head", choices=_HEADS, default="entity", help="what to look for; the classes are those of the weights")
    add("--overlap", type=at_least(0), default=1, metavar="N", help="frames that consecutive windows share")
    add("--memory", type=at_least(0), default=10, metavar="N", help="windows out of sight after which an id is lost")
    add = videos.add_mutually_exclusive_group().add_argument
    add("--window", type=at_least(1), default=4, metavar="N", help="frames that the model sees at once")
    add("--offline", action="store_true", help="a single window for the whole video, if it is short")


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.jobs.options import SegmentOptions
    from entitytransfer.processes import process_device
    from entitytransfer.segment import segment
    from entitytransfer.writers.formats import FORMATS, PANOPTIC_FORMATS

    every = frozenset(FORMATS) - (PANOPTIC_FORMATS if arguments.head != "panoptic" else frozenset())
    options = SegmentOptions(
        out_dir=arguments.out,
        formats=every if arguments.format is None else frozenset(arguments.format.split(",")),
        weights=arguments.weights,
        device=process_device(arguments.device),
        compile=arguments.compile,
        crops=arguments.crops,
        short_side=arguments.short_side,
        max_side=arguments.max_side,
        min_score=arguments.min_score,
        batch_size=arguments.batch_size,
        max_memory=arguments.max_memory,
        precision=arguments.precision,
        stride=arguments.stride,
        start_frame=arguments.start_frame,
        end_frame=arguments.end_frame,
        start_s=arguments.start_time,
        end_s=arguments.end_time,
        frames=arguments.frames,
        backend=arguments.backend,
        head=arguments.head,
        window=None if arguments.offline else arguments.window,
        overlap=arguments.overlap,
        memory=arguments.memory,
        shard=_share(arguments.shard),
        resume=arguments.resume,
    )
    outcome = segment(arguments.paths, options)
    counts = f"{outcome.done} segmented, {outcome.skipped} skipped, {len(outcome.errors)} failed"
    print(f"{counts}; outputs are in {options.out_dir}")
    return report(outcome.errors, debug=arguments.debug)


def _share(chosen: tuple[int, int] | None) -> tuple[int, int]:
    """The shard of this process: the one that was chosen, or its own among those that were launched together."""
    from cropformer import InputError
    from entitytransfer.processes import process_shard

    own = process_shard()
    if chosen and own[1] > 1:
        raise InputError(f"Each of the {own[1]} processes takes a share of its own; leave out --shard, or launch one.")
    return chosen or own
