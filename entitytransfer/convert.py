"""The ``convert`` command: from any known layout to our safetensors or the official ``.pth``, with a report."""

from pathlib import Path

import torch

from cropformer import (
    Checkpoint,
    EntitySegmenter,
    InputError,
    build,
    build_from,
    load_into,
    named_architecture,
    read_checkpoint,
    save_checkpoint,
    save_official,
    weights_path,
)

SEED = 0  # of what the file lacks: the same conversion gives the same weights


def convert(
    source: str | Path,
    destination: Path,
    *,
    model: str | None = None,
    strict: bool = False,
    half: bool = False,
) -> str:
    """Read a checkpoint, fill its model, write it, and tell what was done.

    Args:
        source: a checkpoint in any known layout, by path, name or address.
        destination: the file to write: ``.safetensors`` for our layout, ``.pth`` for the official one.
        model: the model to fill, by its name in the zoo, with one class and as many queries as the file has; None for
            the model that the file describes.
        strict: refuse to write anything that is not exactly what the file holds.
        half: store fp16, half the size and about three decimal digits.

    Raises:
        InputError: the source is missing, damaged, in no known layout or of another model; strict finds a difference;
            or the destination has another suffix or cannot be written.
    """
    if destination.suffix not in (".safetensors", ".pth"):
        raise InputError(f"{destination} must end in .safetensors (our layout) or .pth (the official layout).")
    checkpoint = read_checkpoint(weights_path(source), timm_backbone=_on_timm(model))
    filled = _fresh_model(checkpoint, model)
    report = load_into(filled, checkpoint)
    if strict and not report.exact:
        raise InputError(
            f"{source} is not exactly this model: {len(report.reinitialised)} tensors are re-initialised, "
            f"{len(report.resized)} resized and {len(report.unexpected)} unexpected; convert it without --strict to "
            "see which"
        )
    _write(destination, filled, dtype=torch.float16 if half else torch.float32)
    return f"{report}\n{_describe(filled)}\n{destination}: {destination.stat().st_size / 1e6:.1f} MB"


def _on_timm(name: str | None) -> bool:
    return name is not None and named_architecture(name).backbone == "timm"


def _fresh_model(checkpoint: Checkpoint, name: str | None) -> EntitySegmenter:
    """The model to fill, with reproducible values for what the file lacks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return build_from(checkpoint) if name is None else _named(checkpoint, name)


def _named(checkpoint: Checkpoint, name: str) -> EntitySegmenter:
    """A model of the zoo with as many queries as the file has, and its one class if it has one."""
    theirs = None if checkpoint.is_backbone else checkpoint.architecture
    architecture = named_architecture(name, num_queries=theirs and theirs.num_queries)
    same_classes = theirs is not None and theirs.num_classes == architecture.num_classes
    return build(architecture, classes=checkpoint.classes if same_classes else None)


def _write(destination: Path, model: EntitySegmenter, *, dtype: torch.dtype) -> None:
    common = {"architecture": model.architecture, "dtype": dtype}
    if destination.suffix == ".pth":
        save_official(destination, model.state_dict(), **common)
    else:
        save_checkpoint(destination, model.state_dict(), **common, settings=model.settings, classes=model.classes)


def _describe(model: EntitySegmenter) -> str:
    a = model.architecture
    parameters = sum(parameter.numel() for parameter in model.parameters())
    kind = "Mask2Former" if a.association == "none" else "CropFormer"
    return (
        f"{kind} on {a.backbone}, {a.num_queries} queries, {a.num_classes} classes, {parameters / 1e6:.1f} M parameters"
    )
