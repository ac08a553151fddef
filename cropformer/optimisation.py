"""Optimisation: the numbers of AdamW and its schedule, and which parameters learn at which rate.

As published: a tenth of the rate for the backbone, no decay of norms and embeddings, polynomial decay of the rate, and
the whole gradient clipped to a small norm.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Optimisation:
    """Numbers of the optimiser and its schedule.

    Attributes:
        lr: base learning rate.
        backbone_lr_factor: factor for the backbone; 0 freezes it.
        weight_decay: for all but norms, embeddings and position tables.
        warmup_steps: linear warm-up from a tenth of the rate.
        max_steps: length of the polynomial decay.
        power: its exponent.
        clip_norm: bound on the norm of the whole gradient; ``inf`` for none.
    """

    lr: float = 1e-4
    backbone_lr_factor: float = 0.1
    weight_decay: float = 0.05
    warmup_steps: int = 0
    max_steps: int = 34_375
    power: float = 0.9
    clip_norm: float = 0.01

    def factor(self, step: int) -> float:
        """Learning rate at ``step`` as a share of the base rate."""
        warmup = min(1.0, 0.1 + 0.9 * step / self.warmup_steps) if self.warmup_steps else 1.0
        return warmup * max(0.0, 1 - step / self.max_steps) ** self.power


NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.Embedding)
UNDECAYED_NAMES = ("relative_position_bias_table", "absolute_pos_embed")


def parameter_groups(model: nn.Module, optimisation: Optimisation) -> list[dict]:
    """Trainable parameters in four groups: backbone or not, decayed or not.

    Weight decay spares torch's norm layers, embeddings and position tables, and nothing else: biases are decayed,
    as published.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                decayed = not isinstance(module, NORMS) and name not in UNDECAYED_NAMES
                groups.setdefault(("backbone" in path, decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": optimisation.lr * (optimisation.backbone_lr_factor if in_backbone else 1.0),
            "weight_decay": optimisation.weight_decay if decayed else 0.0,
        }
        for (in_backbone, decayed), parameters in groups.items()
    ]
