"""The command line: what is typed, what is printed, and the exit code.

Every command imports what it needs when it runs, so that help is instant. Exit codes: 0 done, 1 a job failed,
2 bad input, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NoReturn

from entitytransfer.commands import (
    compare,
    consistency,
    convert,
    demo,
    doctor,
    evaluate,
    finetune,
    launch,
    prepare,
    pretrain,
    score,
    segment,
    stats,
    zeroshot,
)
from entitytransfer.commands.reporting import BAD_INPUT, plain_warnings, report

COMMANDS = (
    demo,
    segment,
    pretrain,
    finetune,
    evaluate,
    zeroshot,
    compare,
    score,
    prepare,
    doctor,
    stats,
    consistency,
    launch,
    convert,
)
INTERRUPTED = 130


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
        with nullcontext() if arguments.debug else plain_warnings():
            code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("Interrupted; the outputs finished so far are kept.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return report([error], debug=arguments.debug)


def build_parser() -> argparse.ArgumentParser:
    """Every command with its arguments."""
    parser = _Parser(prog="entitytransfer", description="Segment every entity in photos and clips.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")
