"""``entitytransfer prepare``."""

import argparse
import os

from entitytransfer.commands.parsing import Commands, add_command, at_least, setting


def add_to(commands: Commands) -> None:
    """Add the command."""
    summary = "make the files that official scripts make of a dataset's raw ones"
    parser = add_command(commands, "prepare", _run, summary=summary)
    add = parser.add_argument
    add("settings", nargs="+", type=setting, metavar="key=value", help="dataset=ade20k root=DIR, and split=NAME")
    workers = "processes that work; as many as there are cores if left out"
    add("--workers", type=at_least(1), default=os.cpu_count() or 1, metavar="N", help=workers)


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.datasets import bind_function

    prepare = bind_function(dict(arguments.settings), "prepare")
    for line in prepare(workers=arguments.workers):
        print(line)
    return 0
