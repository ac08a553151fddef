"""``entitytransfer doctor``."""

import argparse
import json
import sys
from contextlib import redirect_stdout

from entitytransfer.commands.parsing import Commands, add_command, setting
from entitytransfer.commands.reporting import BAD_INPUT


def add_to(commands: Commands) -> None:
    """Add the command."""
    summary = "say what is missing or broken in a dataset, and what to do about it"
    parser = add_command(commands, "doctor", _run, summary=summary)
    add = parser.add_argument
    settings = "dataset=NAME root=DIR, and what to look at, such as split=val task=entity resolution=high"
    add("settings", nargs="+", type=setting, metavar="key=value", help=settings)
    add("--full", action="store_true", help="decode every photo, not only the head of its file")
    add("--json", metavar="FILE", help="write the findings to this file, too; - prints them in place of the text")


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.datasets import bind_function
    from entitytransfer.doctor import as_json, as_lines, is_healthy
    from entitytransfer.predictions import write_json

    examine = bind_function(dict(arguments.settings), "examine")
    with redirect_stdout(sys.stderr):  # the progress; standard output is for the findings
        findings = list(examine(full=True) if arguments.full else examine())
    if arguments.json == "-":
        print(json.dumps(as_json(findings), indent=2))
    else:
        print("\n".join(as_lines(findings)))
        if arguments.json is not None:
            write_json(arguments.json, as_json(findings))
    return 0 if is_healthy(findings) else BAD_INPUT
