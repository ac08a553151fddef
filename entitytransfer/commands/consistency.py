"""``entitytransfer consistency``."""

import argparse
from pathlib import Path

from entitytransfer.commands.parsing import Commands, add_command


def add_to(commands: Commands) -> None:
    """Add the command."""
    summary = "measure how far two annotations of the same images agree, in masks and in categories"
    parser = add_command(commands, "consistency", _run, summary=summary)
    add = parser.add_argument
    annotation = "COCO-instance or COCO-panoptic JSON of one annotator"
    add("--first", type=Path, required=True, metavar="A.json", help=annotation)
    add("--second", type=Path, required=True, metavar="B.json", help="that of the other one, over the same images")
    pairing = "compare categories over masks that overlap by more than half (iou), or over identical masks only (same)"
    add("--pairs", choices=("iou", "same"), default="iou", help=pairing)
    add("--json", type=Path, metavar="FILE", help="write the numbers to this file, too")


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.reports.consistency import report_consistency

    print(report_consistency(arguments.first, arguments.second, pairing=arguments.pairs, json_path=arguments.json))
    return 0
