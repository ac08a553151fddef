"""The one exception that bad input raises anywhere in the two packages."""


class InputError(ValueError):
    """Bad input, said in one sentence: what is wrong, where, and what to do about it.

    The command line prints the sentence and exits with 2; as a ``ValueError`` it can be caught like any other.
    """


class JobError(RuntimeError):
    """A job that had to be given up though its input was fine, said in one sentence; the command line exits with 1."""
