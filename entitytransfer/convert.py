"""The ``convert`` command: any known checkpoint to this project's safetensors, with a report."""

from pathlib import Path

import torch

from cropformer import InputError, load_with_report, save_checkpoint


def convert(source: Path, destination: Path, *, half: bool = False) -> str:
    """Read a checkpoint, prove that it fills its model, write it, and tell what was done.

    Args:
        source: any known checkpoint.
        destination: the file to write.
        half: store fp16, half the size and about three decimal digits.

    Raises:
        InputError: the source is missing, damaged or no known checkpoint, or the destination is not a
            ``.safetensors`` file that can be written.
    """
    if destination.suffix != ".safetensors":
        raise InputError(f"{destination} must end in .safetensors; give it that name.")
    model, report = load_with_report(source)
    state = model.state_dict()
    dtype = torch.float16 if half else torch.float32
    save_checkpoint(destination, state, architecture=model.architecture, settings=model.settings, dtype=dtype)
    a = model.architecture
    parameters = sum(parameter.numel() for parameter in model.parameters())
    kind = "Mask2Former" if a.association == "none" else "CropFormer"
    return (
        f"{report}\n{kind} on {a.backbone}, {a.num_queries} queries, {a.num_classes} classes, "
        f"{parameters / 1e6:.1f} M parameters\n{destination}: {destination.stat().st_size / 1e6:.1f} MB"
    )
