"""Mask2Former of the ``transformers`` library: its network, whose queries our heads read as they read our own.

The library's own post-processing is not used: it squeezes every photo to 384x384 pixels, and a panoptic segment that
follows a merged one gets the number of another. Ours is that of the published pipeline.
Source: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation" (2022).
"""

from functools import partial

import numpy as np
import torch
from transformers import Mask2FormerForUniversalSegmentation

from cropformer import Queries, Views, make_views
from entitytransfer.adapter import Head, Result
from entitytransfer.peers import Peer
from entitytransfer.peers._pretrained import load_model

TASKS = ("entity", "instance", "panoptic", "semantic", "dichotomous")


def build(weights: str, *, head: Head, device: torch.device, short_side: int = 800, max_side: int = 1333) -> Peer:
    """The network in front of a head; photos are resized and normalised as the published pipeline does.

    Args:
        weights: folder or name on the hub, such as "facebook/mask2former-swin-large-coco-panoptic".
        head: of the dataset; the entity head takes every query for a proposal, whose score is the probability of its
            best class times the mean mask probability.
        device: where it shall run.
        short_side: pixels of the shorter side of what the network sees.
        max_side: bound on the longer side.

    Raises:
        InputError: there are no such weights.
    """
    network = load_model(Mask2FormerForUniversalSegmentation, weights).to(device)
    make = partial(make_views, crops=0, short_side=short_side, max_side=max_side)

    @torch.inference_mode()
    def predict(image: np.ndarray) -> Result:
        views = make(image).to(device)
        (result,) = head.predict(network_queries(network, views), views)
        return result

    return Peer(network, predict, num_classes=network.config.num_labels, libraries=("transformers",))


def network_queries(network: Mask2FormerForUniversalSegmentation, views: Views) -> Queries:
    """What the network says about a photo, one view.

    It gives masks, not what they were made of: each is a plane of its own here, which its query picks.
    """
    found = network(views.pixels[:, 0])  # [1,T,3,H,W] -> [1,3,H,W]
    masks = found.masks_queries_logits.float()  # [1,Q,h,w]
    picks = torch.eye(masks.shape[1], device=masks.device)[None]  # [1,Q,Q]
    classes = found.class_queries_logits.float()
    return Queries(found.transformer_decoder_last_hidden_state, classes, picks, masks[:, None])  # [1,1,Q,h,w]
