"""``entitytransfer pretrain``."""

import argparse

from entitytransfer.commands.parsing import Commands, add_training_command


def add_to(commands: Commands) -> None:
    """Add the command."""
    add_training_command(commands, "pretrain", _run, summary="train on photos with entity masks")


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.config import run_pretrain

    run_pretrain(arguments.overrides, dry_run=arguments.dry_run)
    return 0
