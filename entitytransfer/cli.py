"""The command line: what is typed, what is printed, and the exit code.

Every command imports what it needs when it runs, so that help is instant. Exit codes: 0 done, 1 a job failed,
2 bad input, 130 interrupted.
"""

import argparse
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: what was typed after ``entitytransfer``; None = ``sys.argv``.

    Raises:
        SystemExit: after ``--help``, or with code 2 after arguments that make no sense.
    """
    options = build_parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("Interrupted; the outputs finished so far are kept.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return report([error], debug=options.debug)


def report(errors: Iterable[Exception], *, debug: bool = False) -> int:
    """Print one line for each error on the standard error stream, and return the exit code they amount to."""
    from cropformer import InputError

    code = 0
    for error in errors:
        is_bad_input = isinstance(error, InputError)
        code = FAILED if not is_bad_input or code == FAILED else BAD_INPUT
        sentence = " ".join(str(error).split())
        hint = "" if is_bad_input or debug else " Run it again with --debug for the traceback."
        name = "" if is_bad_input or hasattr(error, "is_explained") else f"{type(error).__name__}: "
        print(f"{name}{sentence}{hint}", file=sys.stderr)
        if debug:
            traceback.print_exception(error)
    return code
