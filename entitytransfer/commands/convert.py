"""``entitytransfer convert``."""

import argparse
from pathlib import Path

from entitytransfer.commands.parsing import Commands, add_command


def add_to(commands: Commands) -> None:
    """Add the command."""
    summary = "turn a checkpoint in any known layout into this project's safetensors, or into the official layout"
    parser = add_command(commands, "convert", _run, summary=summary)
    add = parser.add_argument
    add("source", metavar="SRC", help="checkpoint of a CropFormer, Mask2Former or backbone: path, name or address")
    add("destination", type=Path, metavar="DST", help="file to write: .safetensors, or .pth in the official layout")
    add("--model", metavar="NAME", help="model to fill, such as swin_t; the one that the file describes if left out")
    add("--strict", action="store_true", help="write nothing unless the file fills the model as it stands")
    add("--half", action="store_true", help="store fp16, half the size")


def _run(arguments: argparse.Namespace) -> int:
    from entitytransfer.convert import convert

    choices = {"model": arguments.model, "strict": arguments.strict, "half": arguments.half}
    print(convert(arguments.source, arguments.destination, **choices))
    return 0
