"""Loading: weights by name or path to a model that is ready to use."""

from __future__ import annotations

from pathlib import Path

from .assembly import build
from .checkpoint import LoadReport, load_into, read_checkpoint
from .errors import InputError
from .predictor import EntitySegmenter

NANO_WEIGHTS = Path(__file__).parent / "assets" / "cropformer_nano.safetensors"


def load(weights: str | Path = "nano") -> EntitySegmenter:
    """A trained model in evaluation mode.

    Args:
        weights: "nano" for the bundled weights, or a path: our ``.safetensors``, or a published checkpoint.

    Raises:
        InputError: if the file is missing, damaged, of another kind, or does not fill the model.
    """
    return load_with_report(weights)[0]


def load_with_report(weights: str | Path) -> tuple[EntitySegmenter, LoadReport]:
    """``load``, with the account of what was loaded and ignored."""
    path = weights_path(weights)
    checkpoint = read_checkpoint(path)
    model = build(checkpoint.architecture, settings=checkpoint.settings)
    report = load_into(model, checkpoint)
    if report.missing or report.unexpected:
        names = ", ".join((report.missing + report.unexpected)[:3])
        raise InputError(f"{path} does not fit the model its shapes describe: {names} missing or unexpected")
    return model.eval(), report


def weights_path(weights: str | Path) -> Path:
    """The file that a name or path means."""
    return NANO_WEIGHTS if str(weights) == "nano" else Path(weights)
