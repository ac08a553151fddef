"""Segment Anything: masks of everything, prompted by a grid of points, as its published automatic generator makes them.

Source: Kirillov et al., "Segment Anything" (2023), through the mask generation of ``transformers``.
"""

import numpy as np
import torch
from PIL import Image
from transformers import MaskGenerationPipeline, SamModel, SamProcessor

from cropformer import Entities, rle
from entitytransfer.adapter import Head
from entitytransfer.peers import Peer, interpreted
from entitytransfer.peers._pretrained import from_pretrained, load_model

TASKS = ("entity",)

_MAX_POINTS = 64
_PIXELS_AT_ONCE = 64 * 2**20  # of the masks of so many points; each gives three


def build(
    weights: str,
    *,
    head: Head,
    device: torch.device,
    points: int = 32,
    crop_layers: int = 0,
    min_iou: float = 0.88,
    min_stability: float = 0.95,
    max_box_iou: float = 0.7,
) -> Peer:
    """The automatic mask generator; the defaults are the published ones.

    The score of a mask is the IoU that the model expects of it. It knows no classes.

    Args:
        weights: folder or name on the hub, such as "facebook/sam-vit-huge".
        head: of the dataset.
        device: where it shall run.
        points: in each row and column of the grid.
        crop_layers: how many times the image is cut further, into 4 crops, then 16; 0 for the image alone.
        min_iou: masks of which less is expected are left out.
        min_stability: those that change more with the threshold of their pixels are left out.
        max_box_iou: those whose box overlaps that of a better one more are left out.

    Raises:
        InputError: there are no such weights.
    """
    model = load_model(SamModel, weights)
    processor = from_pretrained(SamProcessor, weights).image_processor
    generator = MaskGenerationPipeline(model=model, image_processor=processor, device=device)
    settings = {"points_per_crop": points, "crops_n_layers": crop_layers, "crops_nms_thresh": max_box_iou}
    settings |= {"pred_iou_thresh": min_iou, "stability_score_thresh": min_stability, "output_rle_mask": True}

    def predict(image: np.ndarray) -> Entities:
        size_hw = image.shape[:2]
        at_once = max(1, min(_MAX_POINTS, _PIXELS_AT_ONCE // (size_hw[0] * size_hw[1])))
        found = generator(Image.fromarray(image), points_per_batch=at_once, **settings)
        rles = [rle.from_runs(one["counts"], size_hw) for one in found["rle_mask"]]
        scores = found["scores"].float().cpu().numpy()
        return interpreted(Entities.from_rles(size_hw, rles, scores, np.zeros(len(rles))), head)

    return Peer(model, predict, num_classes=1, libraries=("transformers", "torchvision"))
