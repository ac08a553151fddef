"""``entitytransfer finetune``."""

import argparse

from entitytransfer.commands.parsing import Commands, add_training_command


def add_to(commands: Commands) -> None:
    """Add the command."""
    add_training_command(commands, "finetune", _run, summary="train weights further on another dataset and task")


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.config import run_finetune

    run_finetune(arguments.overrides, dry_run=arguments.dry_run)
    return 0
