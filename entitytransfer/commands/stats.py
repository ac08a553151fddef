"""``entitytransfer stats``."""

import argparse
import os
from pathlib import Path

from entitytransfer.commands.parsing import Commands, add_command, at_least, setting


def add_to(commands: Commands) -> None:
    """Add the command."""
    summary = "measure a dataset: resolutions, entities per image, shapes and covered area"
    parser = add_command(commands, "stats", _run, summary=summary)
    add = parser.add_argument
    settings = "dataset=NAME root=DIR, and settings of that dataset, such as split=train"
    add("settings", nargs="+", type=setting, metavar="key=value", help=settings)
    add("--out", type=Path, metavar="DIR", help="folder for stats.json and the plots, made if needed")
    add("--json", type=Path, metavar="FILE", help="write the numbers to this file, too")
    workers = "processes that measure; as many as there are cores if left out"
    add("--workers", type=at_least(1), default=os.cpu_count() or 1, metavar="N", help=workers)


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.reports.stats import report_statistics

    settings = dict(arguments.settings)
    print(report_statistics(settings, out_dir=arguments.out, json_path=arguments.json, workers=arguments.workers))
    return 0
