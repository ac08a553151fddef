"""Errors as one line each, and the exit code that they amount to: 1 a job failed, 2 bad input."""

import sys
import traceback
from collections.abc import Iterable

FAILED, BAD_INPUT = 1, 2


def report(errors: Iterable[Exception], *, debug: bool = False) -> int:
    """Print one line for each error on the standard error stream, and return the exit code they amount to."""
    from cropformer import InputError, JobError

    code = 0
    for error in errors:
        sentence = " ".join(str(error).split())
        if isinstance(error, InputError):
            code = code or BAD_INPUT
        else:
            code = FAILED
            if not isinstance(error, JobError):
                sentence = f"{type(error).__name__}: {sentence}; run it again with --debug for the traceback."
        print(sentence, file=sys.stderr)
        if debug:
            traceback.print_exception(error)
    return code
