"""``entitytransfer demo``."""

import argparse
from pathlib import Path

from entitytransfer.commands.parsing import Commands, add_command, add_model_arguments


def add_to(commands: Commands) -> None:
    """Add the command."""
    summary = "segment the bundled photo and clip, and make a page that shows them"
    parser = add_command(commands, "demo", _run, summary=summary)
    parser.add_argument("--out", type=Path, default=Path("demo_output"), metavar="DIR", help="%(default)s if left out")
    add_model_arguments(parser)


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.demo import make_demo

    page = make_demo(arguments.out, weights=arguments.weights, device=arguments.device)
    print(f"Open {page} in a browser.")
    return 0
