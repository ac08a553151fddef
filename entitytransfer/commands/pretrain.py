"""``entitytransfer pretrain``."""

import argparse

from entitytransfer.commands.parsing import Commands, add_command


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "pretrain", _run, summary="train on photos with entity masks")
    overrides = "hydra overrides of the configuration, such as data.root=DIR or trainer.max_steps=1000"
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=overrides)
    dry_run = "build everything, take two steps, and print the forecast of memory and time"
    parser.add_argument("--dry-run", action="store_true", help=dry_run)


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.config import run_pretrain

    run_pretrain(arguments.overrides, dry_run=arguments.dry_run)
    return 0
