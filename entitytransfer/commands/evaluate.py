"""``entitytransfer evaluate``."""

import argparse

from entitytransfer.commands.parsing import Commands, add_command, shard


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "evaluate", _run, summary="predict a set, then score it")
    overrides = "hydra overrides of the configuration, such as data.root=DIR or weights=nano"
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=overrides)
    dry_run = "predict two images, and print the forecast of memory and time"
    parser.add_argument("--dry-run", action="store_true", help=dry_run)
    share = "predict only the i-th of n equal parts; the one that completes the set joins and scores all"
    parser.add_argument("--shard", type=shard, metavar="i/n", help=share)


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.config import run_evaluate
    from entitytransfer.evaluate import table

    metrics = run_evaluate(arguments.overrides, shard=arguments.shard, dry_run=arguments.dry_run)
    if metrics is not None:
        print(table(metrics))
    return 0
