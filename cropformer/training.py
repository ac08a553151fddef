"""Training: the Lightning module that pretraining and every transfer share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import lightning
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from .checkpoint import describe
from .fusion import fuse
from .losses import SetLoss, cropformer_losses
from .model import CropFormer
from .optimisation import Optimisation, parameter_groups
from .predictor import EntitySegmenter
from .training_views import TrainingBatch
from .views import Target, Views


class Evaluator(Protocol):
    """What validation needs of an evaluator: collect results, then give named numbers and start anew."""

    def update(self, entities: Any, sample: Any) -> None:
        """Take the result for one sample."""

    def compute(self) -> dict[str, float]:
        """The numbers over all samples since the last call of ``reset``."""

    def reset(self) -> None:
        """Forget all samples."""


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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write beside the tensors what the shapes do not tell, so that ``load`` takes the checkpoint."""
        if isinstance(self.model, EntitySegmenter):
            checkpoint.update(describe(self.model.architecture, self.model.settings))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a training or validation batch; samples and geometry stay where they are."""
        if isinstance(batch, TrainingBatch):
            features = batch.features and {stride: f.to(device).float() for stride, f in batch.features.items()}
            return TrainingBatch(batch.views.to(device), _moved(batch.targets, device), features)
        return (batch[0].to(device), batch[1])


def _moved(targets: Iterable[Target], device: torch.device) -> list[Target]:
    return [target.to(device) for target in targets]
