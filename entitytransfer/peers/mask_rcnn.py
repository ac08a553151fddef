"""Mask R-CNN of torchvision: instances with classes, whose masks may overlap.

Source: He et al., "Mask R-CNN" (2017).
"""

import numpy as np
import torch
from torch import Tensor, nn

from cropformer import Entities, rle
from entitytransfer.adapter import Head
from entitytransfer.classes import Classes
from entitytransfer.peers import Peer, interpreted
from entitytransfer.peers._torchvision import Weights, load_model, to_pixels

TASKS = ("entity", "instance")


def build(
    weights: str,
    *,
    head: Head,
    device: torch.device,
    model: str = "maskrcnn_resnet50_fpn",
    short_side: int = 800,
    max_side: int = 1333,
    min_score: float = 0.05,
    top_k: int = 100,
) -> Peer:
    """The detector; its background has no label, so that label k is the (k+1)-th of its outputs.

    Weights for the category ids of a dataset, gaps among them, as torchvision publishes for COCO, are told by the
    number of their outputs: their labels become those of the dataset.

    Args:
        weights: file, or name of weights that torchvision publishes.
        head: of the dataset.
        device: where it shall run.
        model: the architecture, maskrcnn_resnet50_fpn or maskrcnn_resnet50_fpn_v2.
        short_side: pixels of the shorter side of what the network sees.
        max_side: bound on the longer side.
        min_score: detections below it are left out.
        top_k: detections in an image.

    Raises:
        InputError: there are no such weights.
    """
    network = load_model(model, weights, _count_classes).to(device)
    network.transform.min_size, network.transform.max_size = (short_side,), max_side
    network.roi_heads.score_thresh, network.roi_heads.detections_per_img = min_score, top_k
    labels = _labels(network.roi_heads.box_predictor.cls_score.out_features, head.classes)

    @torch.inference_mode()
    def predict(image: np.ndarray) -> Entities:
        return interpreted(_entities(network, to_pixels(image, device), labels), head)

    return Peer(network, predict, num_classes=int(labels.max()) + 1, libraries=("torchvision",))


def _count_classes(weights: Weights) -> int:
    return len(weights["roi_heads.box_predictor.cls_score.bias"])


def _labels(outputs: int, classes: Classes) -> np.ndarray:
    """The label of each output, int64 [K+1]; -1 for those that are no class of the dataset."""
    labels = np.arange(-1, outputs - 1)
    if outputs - 1 != len(classes) and outputs - 1 == max(classes.category_ids):
        labels[:] = -1
        labels[list(classes.category_ids)] = np.arange(len(classes))
    return labels


def _entities(network: nn.Module, pixels: Tensor, labels: np.ndarray) -> Entities:
    """The detections in a photo, float [3,H,W] on 0..1.

    The steps are those of the model itself, but that masks are made as large as the photo one by one: it would hold
    all of them, N x H x W numbers.
    """
    size_hw = (pixels.shape[1], pixels.shape[2])
    images, _ = network.transform([pixels])
    features = network.backbone(images.tensors)
    proposals, _ = network.rpn(images, features)
    (found,), _ = network.roi_heads(features, proposals, images.image_sizes)
    kept = np.flatnonzero(labels[found["labels"].cpu().numpy()] >= 0)
    rles = []
    for index in kept.tolist():
        one = {name: values[index : index + 1] for name, values in found.items()}
        (pasted,) = network.transform.postprocess([one], images.image_sizes, [size_hw])
        rles.append(rle.encode((pasted["masks"][0, 0] > 0.5).cpu().numpy()))  # [1,1,H,W] -> [H,W]
    scores, outputs = (found[name].cpu().numpy()[kept] for name in ("scores", "labels"))
    return Entities.from_rles(size_hw, rles, scores, labels[outputs])
