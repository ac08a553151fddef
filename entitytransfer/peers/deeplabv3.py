"""DeepLabv3 of torchvision: one region for each class in the photo, which together cover it.

Read as entities, all things of a class are one: the method does not tell them apart, and connected parts of a class
are not its answer either.
Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import normalize, resize

from cropformer import Entities, rle
from entitytransfer.adapter import Head
from entitytransfer.peers import Peer, interpreted
from entitytransfer.peers._torchvision import Weights, load_model, to_pixels

TASKS = ("entity", "semantic")

_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet, as all weights of torchvision are trained


def build(
    weights: str,
    *,
    head: Head,
    device: torch.device,
    model: str = "deeplabv3_resnet50",
    short_side: int = 520,
) -> Peer:
    """The network; output k is label k.

    Args:
        weights: file, or name of weights that torchvision publishes.
        head: of the dataset.
        device: where it shall run.
        model: the architecture, deeplabv3_resnet50, deeplabv3_resnet101 or deeplabv3_mobilenet_v3_large.
        short_side: pixels of the shorter side of what the network sees.

    Raises:
        InputError: there are no such weights.
    """
    network = load_model(model, weights, _count_classes).to(device)

    @torch.inference_mode()
    def predict(image: np.ndarray) -> Entities:
        pixels = normalize(resize(to_pixels(image, device), [short_side]), _MEAN, _STD)
        logits = network(pixels[None])["out"][0]  # [1,K,h,w] -> [K,h,w]
        return interpreted(label_entities(logits, image.shape[:2]), head)

    return Peer(network, predict, num_classes=network.classifier[-1].out_channels, libraries=("torchvision",))


def label_entities(logits: Tensor, size_hw: tuple[int, int]) -> Entities:
    """The regions of the classes, from logits [K,h,w], resized to the photo class by class.

    The score is the mean probability of the class in its region.
    """
    totals = _resized(logits.logsumexp(0), size_hw)
    best = torch.full_like(totals, -torch.inf)
    labels = torch.zeros_like(totals, dtype=torch.int16)
    for label, plane in enumerate(logits):
        values = _resized(plane, size_hw)
        labels[values > best] = label
        best = torch.maximum(best, values)
    id_map = labels.cpu().numpy()
    areas = np.bincount(id_map.ravel())
    probs = np.bincount(id_map.ravel(), (best - totals).exp().cpu().numpy().ravel())
    present = np.flatnonzero(areas)
    scores = np.minimum(probs[present] / areas[present], 1)
    return Entities.from_rles(size_hw, rle.encode_id_map(id_map, present), scores, present)


def _resized(plane: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """A plane [h,w] at the size of the photo, [H,W]."""
    return F.interpolate(plane[None, None], size_hw, mode="bilinear", align_corners=False)[0, 0]


def _count_classes(weights: Weights) -> int:
    return len(weights["classifier.4.bias"])
