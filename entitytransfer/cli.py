"""The command line: what is typed, what is printed, and the exit code.

Every command imports what it needs when it runs, so that help is instant. Exit codes: 0 done, 1 a job failed,
2 bad input, 130 interrupted.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(typed: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        typed: what was typed after ``entitytransfer``; None = ``sys.argv``.

    Raises:
        SystemExit: after ``--help``, or with code 2 after arguments that make no sense.
    """
    arguments = build_parser().parse_args(typed)
    # Idle OpenMP threads of torch spin by default: on cores that other programs use too, that took 4 x the time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("Interrupted; the outputs finished so far are kept.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return report([error], debug=arguments.debug)


def report(errors: Iterable[Exception], *, debug: bool = False) -> int:
    """Print one line for each error on the standard error stream, and return the exit code they amount to."""
    from cropformer import InputError

    code = 0
    for error in errors:
        sentence = " ".join(str(error).split())
        if isinstance(error, InputError):
            code = code or BAD_INPUT
        else:
            code = FAILED
            sentence = f"{type(error).__name__}: {sentence}; run it again with --debug for the traceback."
        print(sentence, file=sys.stderr)
        if debug:
            traceback.print_exception(error)
    return code


def build_parser() -> argparse.ArgumentParser:
    """Every command with its arguments."""
    parser = _Parser(prog="entitytransfer", description="Segment every entity in photos and clips.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_segment(commands)
    _add_pretrain(commands)
    _add_convert(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _add_command(
    commands: _Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    summary: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=run)
    return parser


def _add_demo(commands: _Commands) -> None:
    summary = "segment the bundled photo and clip, and make a page that shows them"
    parser = _add_command(commands, "demo", _run_demo, summary=summary)
    parser.add_argument("--out", type=Path, default=Path("demo_output"), metavar="DIR", help="%(default)s if left out")
    _add_model_arguments(parser)


def _run_demo(arguments: argparse.Namespace) -> int:
    from entitytransfer.demo import make_demo

    page = make_demo(arguments.out, weights=arguments.weights, device=arguments.device)
    print(f"Open {page} in a browser.")
    return 0


def _add_segment(commands: _Commands) -> None:
    parser = _add_command(commands, "segment", _run_segment, summary="segment every entity in photos and videos")
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="photo, video, folder (with its sub-folders) or glob")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the outputs, made if needed")
    add("--format", metavar="NAMES", help="some of overlay,ids,coco,panoptic,ytvis; all if left out")
    add("--min-score", type=_score, metavar="P", help="leave out entities below this score, 0 to 1")
    add("--short-side", type=_at_least(1), metavar="N", help="pixels of the shorter side that the model sees")
    add("--max-side", type=_at_least(1), metavar="N", help="bound on the longer side")
    add("--resume", action="store_true", help="skip inputs whose outputs all exist")
    add("--shard", type=_shard, default=(1, 1), metavar="i/n", help="do only the i-th of n equal parts")
    _add_model_arguments(parser)
    add("--compile", action="store_true", help="compile the backbone first; pays for many inputs of few sizes")
    add = parser.add_argument_group("photos").add_argument
    add(
        "--crops",
        type=_at_least(0),
        metavar="N",
        help="crops beside the full view: 0, 4 corners, 8, or N in a row",
    )
    add("--batch-size", type=_at_least(1), default=1, metavar="N", help="photos of one shape in the model at once")
    add("--max-memory", metavar="SIZE", help="bound on the memory of network and fusion, such as 2GB")
    add("--precision", choices=("fp32", "bf16"), default="fp32", help="of the network; bf16 is less exact")
    add = parser.add_argument_group("videos").add_argument
    add("--stride", type=_at_least(1), default=1, metavar="N", help="take every N-th frame")
    add("--start-frame", type=_at_least(0), default=0, metavar="N", help="first frame, counted from 0")
    add("--end-frame", type=_at_least(1), metavar="N", help="stop before this frame")


def _run_segment(arguments: argparse.Namespace) -> int:
    from entitytransfer.inputs import FORMATS
    from entitytransfer.segment import segment
    from entitytransfer.segment_options import SegmentOptions

    options = SegmentOptions(
        out_dir=arguments.out,
        formats=frozenset(FORMATS if arguments.format is None else arguments.format.split(",")),
        weights=arguments.weights,
        device=arguments.device,
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
        shard=arguments.shard,
        resume=arguments.resume,
    )
    outcome = segment(arguments.paths, options)
    counts = f"{outcome.done} segmented, {outcome.skipped} skipped, {len(outcome.errors)} failed"
    print(f"{counts}; outputs are in {options.out_dir}")
    return report(outcome.errors, debug=arguments.debug)


def _add_pretrain(commands: _Commands) -> None:
    parser = _add_command(commands, "pretrain", _run_pretrain, summary="train on photos with entity masks")
    overrides = "hydra overrides of the configuration, such as data.root=DIR or trainer.max_steps=1000"
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=overrides)
    dry_run = "build everything, take two steps, and print the forecast of memory and time"
    parser.add_argument("--dry-run", action="store_true", help=dry_run)


def _run_pretrain(arguments: argparse.Namespace) -> int:
    from entitytransfer.config import run_pretrain

    weights = run_pretrain(arguments.overrides, dry_run=arguments.dry_run)
    if not arguments.dry_run:
        print(f"The weights are in {weights}")
    return 0


def _add_convert(commands: _Commands) -> None:
    summary = "turn a checkpoint in any known layout into this project's safetensors, or into the official layout"
    parser = _add_command(commands, "convert", _run_convert, summary=summary)
    add = parser.add_argument
    add("source", metavar="SRC", help="checkpoint of a CropFormer, Mask2Former or backbone: path, name or address")
    add("destination", type=Path, metavar="DST", help="file to write: .safetensors, or .pth in the official layout")
    add("--model", metavar="NAME", help="model to fill, such as swin_t; the one that the file describes if left out")
    add("--strict", action="store_true", help="write nothing unless the file fills the model as it stands")
    add("--half", action="store_true", help="store fp16, half the size")


def _run_convert(arguments: argparse.Namespace) -> int:
    from entitytransfer.convert import convert

    choices = {"model": arguments.model, "strict": arguments.strict, "half": arguments.half}
    print(convert(arguments.source, arguments.destination, **choices))
    return 0


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    weights = "nano (bundled, used if left out), a published name, an hf:// address, or a path"
    parser.add_argument("--weights", default="nano", metavar="NAME", help=weights)
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps, ...")


def _at_least(minimum: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"give a whole number of at least {minimum}, not {text!r}")
        return int(text)

    return whole_number


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise argparse.ArgumentTypeError(f"give a number from 0 to 1, not {text!r}")
    return score


def _shard(text: str) -> tuple[int, int]:
    index, slash, parts = text.partition("/")
    if not (slash and index.isdecimal() and parts.isdecimal()):
        raise argparse.ArgumentTypeError(f"give i/n, such as 1/4, not {text!r}")
    return int(index), int(parts)
