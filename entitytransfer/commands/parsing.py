"""What the commands share: the parser of one command, and the types of arguments."""

import argparse
import re
from collections.abc import Callable
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    summary: str,
) -> argparse.ArgumentParser:
    """Add a command whose parser knows ``--debug`` and which function runs it."""
    parser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=run)
    return parser


def add_training_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], *, summary: str
) -> None:
    """Add a command that trains: it takes overrides of its configuration, and ``--dry-run``."""
    parser = add_command(commands, name, run, summary=summary)
    overrides = "hydra overrides of the configuration, such as data.root=DIR or trainer.max_steps=1000"
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=overrides)
    dry_run = "build everything, take two steps, and print the forecast of memory and time"
    parser.add_argument("--dry-run", action="store_true", help=dry_run)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--weights`` and ``--device``."""
    weights = "nano (bundled, used if left out), a published name, an hf:// address, or a path"
    parser.add_argument("--weights", default="nano", metavar="NAME", help=weights)
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps, ...")


def setting(text: str) -> tuple[str, str | bool]:
    """``key=value``, where ``true`` and ``false`` are truth values."""
    key, equals, value = text.partition("=")
    if not (equals and key.isidentifier() and value):
        raise argparse.ArgumentTypeError(f"give key=value, such as dataset=entityseg, not {text!r}")
    return key, {"true": True, "false": False}.get(value, value)


def at_least(minimum: int) -> Callable[[str], int]:
    """A type for whole numbers from ``minimum`` on."""

    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"give a whole number of at least {minimum}, not {text!r}")
        return int(text)

    return whole_number


def score(text: str) -> float:
    """A number from 0 to 1."""
    try:
        score = float(text)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise argparse.ArgumentTypeError(f"give a number from 0 to 1, not {text!r}")
    return score


def seconds(text: str) -> float:
    """A time: seconds, ``minutes:seconds`` or ``hours:minutes:seconds``."""
    parts = text.split(":")
    if len(parts) > 3 or not all(re.fullmatch(r"\d+(\.\d*)?", part) for part in parts):
        raise argparse.ArgumentTypeError(f"give seconds, m:s or h:m:s, such as 90, 1:30 or 0:01:30.5, not {text!r}")
    return sum(float(part) * 60**place for place, part in enumerate(reversed(parts)))


def shard(text: str) -> tuple[int, int]:
    """``i/n``: the i-th of n equal parts."""
    index, slash, parts = text.partition("/")
    if not (slash and index.isdecimal() and parts.isdecimal()):
        raise argparse.ArgumentTypeError(f"give i/n, such as 1/4, not {text!r}")
    return int(index), int(parts)
