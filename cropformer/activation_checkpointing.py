"""Activation checkpointing: blocks that are computed again in the backward pass instead of being remembered."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from .model import CropFormer


def checkpoint_activations(model: CropFormer) -> None:
    """Let every backbone block, encoder layer and decoder layer keep its inputs only, and recompute in backward.

    Gradients stay the same: random numbers, as of stochastic depth, are drawn again as they were. So do the names in
    ``state_dict``. Costs one more forward pass of these blocks.
    """
    for block in _blocks(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def _blocks(model: CropFormer) -> Iterator[nn.Module]:
    from .backbones.hornet import HorNetBlock
    from .backbones.resnet import Bottleneck
    from .backbones.swin import SwinBlock
    from .backbones.timm import TimmBackbone

    if isinstance(model.backbone, TimmBackbone):  # its stages are children that a name tells apart from the stem
        yield from (part for name, part in model.backbone.body.named_children() if name.startswith("stages"))
    yield from (part for part in model.backbone.modules() if isinstance(part, (SwinBlock, Bottleneck, HorNetBlock)))
    yield from model.pixel_decoder.layers
    yield from model.query_decoder.layers
