"""``entitytransfer zeroshot``."""

import argparse

from entitytransfer.commands.parsing import Commands, add_command, shard


def add_to(commands: Commands) -> None:
    """Add the command."""
    summary = "measure the recall on a set that a model was not trained on, with a gallery of hits and errors"
    parser = add_command(commands, "zeroshot", _run, summary=summary)
    overrides = "dataset=lvis|ocid|camo|fss root=DIR, and others such as weights=nano overlap=both supports=keep"
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=overrides)
    dry_run = "predict two images, and print the forecast of memory and time"
    parser.add_argument("--dry-run", action="store_true", help=dry_run)
    share = "predict only the i-th of n equal parts; the one that completes the set judges all"
    parser.add_argument("--shard", type=shard, metavar="i/n", help=share)


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.config import run_zeroshot

    for text in run_zeroshot(arguments.overrides, shard=arguments.shard, dry_run=arguments.dry_run):
        print(text)
    return 0
