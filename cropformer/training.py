"""Training: parameter groups, schedule and the Lightning module that pretraining and every transfer share.

Source: REFERENCE (b): AdamW, a tenth of the rate for the backbone, polynomial decay, clipping by the full norm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import lightning
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from .fusion import fuse
from .losses import SetLoss, cropformer_losses
from .model import CropFormer
from .views import Target, Views


@dataclass(frozen=True)
class TrainingBatch:
    """Views and targets of B images; with a frozen backbone its cached ``features`` may stand in for pixels.

    Attributes:
        views: B images of T views.
        targets: B targets on the canvas of the views.
        features: {stride: [B*T,C_stride,h,w]} of the views, or None.
    """

    views: Views
    targets: list[Target]
    features: dict[int, Tensor] | None = None


class Evaluator(Protocol):
    """What validation needs of an evaluator: collect results, then give named numbers and start anew."""

    def update(self, entities: Any, sample: Any) -> None:
        """Take the result for one sample."""

    def compute(self) -> dict[str, float]:
        """The numbers over all samples since the last call of ``reset``."""

    def reset(self) -> None:
        """Forget all samples."""


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
    """

    lr: float = 1e-4
    backbone_lr_factor: float = 0.1
    weight_decay: float = 0.05
    warmup_steps: int = 0
    max_steps: int = 34_375
    power: float = 0.9

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


class EntityTraining(lightning.LightningModule):
    """One model, one loss, one optimiser; validates by fusing views and asking an evaluator.

    Args:
        model: what is trained.
        loss: set loss for both levels.
        optimisation: numbers of the optimiser.
        evaluator: judge of the validation samples; None skips validation.
    """

    def __init__(
        self,
        model: CropFormer,
        *,
        loss: SetLoss,
        optimisation: Optimisation,
        evaluator: Evaluator | None = None,
    ) -> None:
        super().__init__()
        self.model, self.loss, self.optimisation, self.evaluator = model, loss, optimisation, evaluator
        if optimisation.backbone_lr_factor == 0:
            self.model.backbone.requires_grad_(False)

    def training_step(self, batch: TrainingBatch, _: int) -> Tensor:
        """Sum of all weighted losses; the last set's terms are logged one by one."""
        count = len(batch.views.frames)
        if batch.features is None:
            pixel_features = self.model.encode(batch.views.pixels.flatten(0, 1))  # [B,T,3,H,W] -> [BT,3,H,W]
        else:
            pixel_features = self.model.pixel_decoder(batch.features)
        queries = self.model.decode(pixel_features, views=count)
        losses = cropformer_losses(queries, batch.targets, loss=self.loss)
        total = torch.stack(list(losses.values())).sum()
        last = {f"loss/{name}": value for name, value in losses.items() if not name[-1].isdigit()}
        self.log("loss", total, prog_bar=True, batch_size=len(batch.targets))
        self.log_dict(last, batch_size=len(batch.targets))
        return total

    def validation_step(self, batch: tuple[Views, list[Any]], _: int) -> None:
        """Fuse the views of a batch of samples and hand the entities to the evaluator."""
        views, samples = batch
        for entities, sample in zip(fuse(self.model(views), views), samples):
            self.evaluator.update(entities, sample)

    def on_validation_epoch_end(self) -> None:
        """Log what the evaluator found."""
        self.log_dict({f"val/{name}": value for name, value in self.evaluator.compute().items()})
        self.evaluator.reset()

    def configure_optimizers(self) -> dict:
        """AdamW over the parameter groups, stepped every iteration."""
        optimiser = torch.optim.AdamW(parameter_groups(self.model, self.optimisation))
        schedule = LambdaLR(optimiser, self.optimisation.factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a training or validation batch; samples and geometry stay where they are."""
        if isinstance(batch, TrainingBatch):
            features = batch.features and {stride: f.to(device).float() for stride, f in batch.features.items()}
            return TrainingBatch(batch.views.to(device), _moved(batch.targets, device), features)
        return (batch[0].to(device), batch[1])


def _moved(targets: Iterable[Target], device: torch.device) -> list[Target]:
    return [target.to(device) for target in targets]
