"""Models of torchvision, from a file of weights or by the name of weights that torchvision publishes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from cropformer import InputError

Weights = dict[str, Tensor]


def load_model(name: str, weights: str, count_classes: Callable[[Weights], int]) -> nn.Module:
    """A model, ready for inference.

    Args:
        name: as torchvision calls it.
        weights: file with its state dict, alone or under "model" as torchvision's training scripts write it; or the
            name of published weights, such as "COCO_V1", which are downloaded.
        count_classes: state dict → classes that it was trained for.

    Raises:
        InputError: there is no such model, there are no such weights, or they do not belong together.
    """
    try:
        published = get_model_weights(name)
    except ValueError as error:
        raise InputError(f"torchvision has no model {name!r}; correct peer_options.model.") from error
    if not Path(weights).is_file():
        if weights not in published.__members__:
            known = ", ".join(published.__members__)
            raise InputError(f"weights={weights} is no file, nor of {name} what torchvision publishes: {known}.")
        return get_model(name, weights=published[weights]).eval()
    try:
        state = _read(weights)
        auxiliary = {"aux_loss": True} if any(key.startswith("aux_classifier.") for key in state) else {}
        model = get_model(name, weights=None, weights_backbone=None, num_classes=count_classes(state), **auxiliary)
        model.load_state_dict(state)
    except Exception as error:  # a file can hold anything
        raise InputError(
            f"{weights} is no file of weights of {name}; give another, or its architecture as peer_options.model."
        ) from error
    return model.eval()


def to_pixels(image: np.ndarray, device: torch.device) -> Tensor:
    """A photo uint8 RGB [H,W,3] as float [3,H,W] on 0..1, on a device."""
    return torch.tensor(image, device=device).permute(2, 0, 1) / 255  # [H,W,3] -> [3,H,W]


def _read(path: str) -> Weights:
    if path.endswith(".safetensors"):
        return load_file(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    return content.get("model", content)
