"""``entitytransfer compare``."""

import argparse
from pathlib import Path

from entitytransfer.commands.parsing import Commands, add_command, at_least


def add_to(commands: Commands) -> None:
    """Add the command."""
    summary = "print what one evaluated run gains over another on the same images"
    parser = add_command(commands, "compare", _run, summary=summary)
    add = parser.add_argument
    add("before", type=Path, metavar="RUN_A", help="folder that evaluate wrote, such as that of the control")
    add("after", type=Path, metavar="RUN_B", help="another one, of the same set and task, whose gain is asked for")
    add("--metric", metavar="NAME", help="the only one to compare, any of metrics.json")
    draws = "resamplings of the images for 95 %% intervals; 1000 if left out, 200 for AP and AR; 0 for none"
    add("--bootstrap", type=at_least(0), metavar="N", help=draws)
    add("--seed", type=at_least(0), default=0, metavar="N", help="of the resampling; 0 if left out")
    add("--json", type=Path, metavar="FILE", help="write the numbers to this file, too")


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.compare import compare

    options = {"metric": arguments.metric, "bootstrap": arguments.bootstrap, "seed": arguments.seed}
    comparison = compare(arguments.before, arguments.after, **options)
    if arguments.json is not None:
        comparison.save(arguments.json)
    print(comparison.table())
    return 0
