"""Loading: weights by name or path to a model that is ready to use."""

from __future__ import annotations

from pathlib import Path

from .assembly import build
from .checkpoint import Checkpoint, load_into, read_checkpoint
from .errors import InputError
from .hub.published import fetch_weights, is_remote
from .load_report import LoadReport
from .predictor import EntitySegmenter

NANO_WEIGHTS = Path(__file__).parent / "assets" / "cropformer_nano.safetensors"


def load(weights: str | Path = "nano") -> EntitySegmenter:
    """A trained model in evaluation mode.

    Args:
        weights: "nano" for the bundled weights; the name of published ones, such as "cropformer_swin_tiny_3x";
            "hf://owner/name/path@revision" for a file on the Hugging Face hub; or a path: our ``.safetensors``, the
            folder of ``save_pretrained``, or a checkpoint of a Mask2Former or CropFormer in another layout.

    Raises:
        InputError: if the file is missing, damaged, of another kind, or does not fill the model; if the hub does not
            give it.
    """
    return load_with_report(weights)[0]


def load_with_report(weights: str | Path) -> tuple[EntitySegmenter, LoadReport]:
    """``load``, with the account of what was loaded and ignored."""
    checkpoint = read_checkpoint(weights_path(weights))
    if checkpoint.architecture is None or checkpoint.is_backbone:
        raise InputError(
            f"{checkpoint.path} holds a backbone without a decoder ({checkpoint.layout}); start a training from it "
            "with init_backbone="
        )
    model = build_from(checkpoint)
    report = load_into(model, checkpoint)
    if not report.exact:
        raise InputError(
            f"{checkpoint.path} does not fit its model: {_first_faults(report)}; see what is in it with "
            "`entitytransfer convert`"
        )
    return model.eval(), report


def build_from(checkpoint: Checkpoint) -> EntitySegmenter:
    """The model that a file describes, with random weights.

    Raises:
        InputError: if the file does not tell its model, or no such model can be built.
    """
    if checkpoint.architecture is None:
        raise InputError(
            f"{checkpoint.path} does not tell which model its backbone belongs to; name it with "
            "`entitytransfer convert --model`"
        )
    try:
        return build(checkpoint.architecture, settings=checkpoint.settings, classes=checkpoint.classes)
    except Exception as error:  # the numbers in a file can be anything
        reason = str(error).partition("\n")[0]
        raise InputError(f"{checkpoint.path} describes a model that cannot be built ({reason}); update it") from error


def _first_faults(report: LoadReport) -> str:
    """The first few tensors that are missing or unexpected, and how many more."""
    faults = [f"{item.name} {item.reason}" for item in report.reinitialised]
    faults += [f"{item.name} of another window" for item in report.resized]
    faults += [f"{name} unexpected" for name in report.unexpected]
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    return ", ".join(faults[:3]) + more


def weights_path(weights: str | Path) -> Path:
    """The file that a name, an ``hf://`` address or a path means, fetched from the hub if need be."""
    if str(weights) == "nano":
        return NANO_WEIGHTS
    if is_remote(str(weights)):
        return fetch_weights(str(weights))
    path = Path(weights)
    return path / "model.safetensors" if path.is_dir() else path
