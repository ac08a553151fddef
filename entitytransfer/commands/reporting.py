"""Errors and warnings as one line each, and the exit code that errors amount to: 1 a job failed, 2 bad input."""

import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

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


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print what warns the user as the sentence that it is; warnings for programmers keep their file and line."""
    usual = warnings.formatwarning

    def sentence(message: Warning | str, category: type[Warning], *place: object, **line: object) -> str:
        return f"Warning: {message}\n" if category is UserWarning else usual(message, category, *place, **line)

    warnings.formatwarning = sentence
    try:
        yield
    finally:
        warnings.formatwarning = usual
