"""Training: the Lightning module that pretraining and every transfer share.

A step is a list of groups of images. Their gradients are averaged over the groups of all processes, so that one
process that accumulates and many processes side by side compute the same step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import lightning
import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from .checkpoint import describe
from .fusion import fuse
from .losses import Normalisers, SetLoss, cropformer_losses
from .model import CropFormer
from .optimisation import Optimisation, parameter_groups
from .predictor import EntitySegmenter
from .queries import Queries
from .training_counts import StepCounts
from .training_views import TrainingBatch
from .views import Target, Views


class Evaluator(Protocol):
    """What validation needs of an evaluator: collect results, then give named numbers and start anew."""

    def update(self, result: Any, sample: Any) -> None:
        """Take the result for one sample."""

    def compute(self) -> dict[str, float]:
        """The numbers over all samples of all processes since the last call of ``reset``."""

    def reset(self) -> None:
        """Forget all samples."""


class EntityTraining(lightning.LightningModule):
    """One model, one loss, one optimiser; validates by asking an evaluator about what it predicts.

    A step whose loss or gradient is not finite changes no weight, but counts as a step.

    Args:
        model: what is trained.
        loss: set loss for both levels.
        optimisation: numbers of the optimiser.
        predict: makes results of the queries and views of B images, one for each.
        evaluator: judge of the validation samples; None skips validation.

    Attributes:
        health: sums over the run of what should not go unnoticed, by name.
    """

    def __init__(
        self,
        model: CropFormer,
        *,
        loss: SetLoss,
        optimisation: Optimisation,
        predict: Callable[[Queries, Views], list[Any]] = fuse,
        evaluator: Evaluator | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.loss, self.optimisation = model, loss, optimisation
        self.predict, self.evaluator = predict, evaluator
        self.health: Counter[str] = Counter()
        self._gradient_norm = torch.tensor(0.0)
        if optimisation.backbone_lr_factor == 0:
            self.model.backbone.requires_grad_(False)

    def training_step(self, groups: Sequence[TrainingBatch], _: int) -> dict[str, Any]:
        """Take one optimiser step on the groups of all processes, of which these are this process's.

        Returns:
            ``loss``, the mean over all groups; ``group_losses``, those of ``groups``; ``skipped``, whether the step
            changed no weight because the loss or the gradient was not finite.
        """
        num_queries = self.model.query_decoder.query_features.num_embeddings
        counts = StepCounts.of(groups, num_queries=num_queries).summed(self._sum, device=self.device)
        optimiser = self.optimizers()
        optimiser.zero_grad()
        terms = [
            self._add_gradients(group, counts=counts, last=number == len(groups))
            for number, group in enumerate(groups, 1)
        ]
        means = self._means(terms, groups=counts.groups)
        if not means["loss"].isfinite():
            optimiser.zero_grad()
        optimiser.step()
        self.lr_schedulers().step()
        skipped = not (means["loss"].isfinite() and self._gradient_norm.isfinite())
        self._log(means, counts.health | {"steps_skipped": int(skipped)})
        return {"loss": means["loss"], "group_losses": [float(term["loss"]) for term in terms], "skipped": skipped}

    def _add_gradients(self, group: TrainingBatch, *, counts: StepCounts, last: bool) -> dict[str, Tensor]:
        """Add the group's share of the gradients; with the ``last`` group the processes average what they have.

        Returns:
            The group's loss, and the terms of the last prediction set.
        """
        torch.manual_seed(group.seed)  # so that the random numbers of a group depend on the group alone
        group = self._on_device(group)
        losses = self._losses(group, counts.normalisers)
        total = torch.stack(list(losses.values())).sum()
        with self.optimizers().toggle_model(sync_grad=last):
            self.manual_backward(total * (self.trainer.world_size / counts.groups))
        terms = {f"loss/{name}": value.detach() for name, value in losses.items() if not name[-1].isdigit()}
        return {"loss": total.detach(), **terms}

    def _losses(self, group: TrainingBatch, normalisers: Normalisers) -> dict[str, Tensor]:
        if group.features is None:
            pixel_features = self.model.encode(group.views.pixels.flatten(0, 1))  # [B,T,3,H,W] -> [BT,3,H,W]
        else:
            pixel_features = self.model.pixel_decoder(group.features)
        queries = self.model.decode(pixel_features, views=len(group.views.frames))
        return cropformer_losses(queries, group.targets, loss=self.loss, normalisers=normalisers)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the norm of the whole gradient; drop the gradient where it is not finite.

        Without gradients the optimiser changes nothing, and decays nothing, while the step is counted.
        """
        self._gradient_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.optimisation.clip_norm)
        if not self._gradient_norm.isfinite():
            optimizer.zero_grad()

    def _means(self, terms: Sequence[dict[str, Tensor]], *, groups: int) -> dict[str, Tensor]:
        """Means over the groups of all processes; not finite on any process if it is not on one of them."""
        sums = torch.stack([torch.stack(list(term.values())) for term in terms]).sum(0)
        return dict(zip(terms[0], self._sum(sums) / groups))

    def _sum(self, values: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(values, reduce_op="sum")

    def _log(self, means: dict[str, Tensor], health: dict[str, int]) -> None:
        self.health.update(health)
        self.log_dict({name: value for name, value in means.items() if name != "loss"}, batch_size=1)
        self.log("loss", means["loss"], prog_bar=True, batch_size=1)
        numbers = {"gradient_norm": self._gradient_norm, **health}
        self.log_dict({f"health/{name}": float(value) for name, value in numbers.items()}, batch_size=1)

    def validation_step(self, batch: tuple[Views, list[Any]], _: int) -> list[Any]:
        """Predict a batch of samples and hand the results to the evaluator; callbacks see them too."""
        views, samples = batch
        results = self.predict(self.model(views), views)
        for result, sample in zip(results, samples):
            self.evaluator.update(result, sample)
        return results

    def on_validation_epoch_end(self) -> None:
        """Log what the evaluator found."""
        self.log_dict({f"val/{name}": value for name, value in self.evaluator.compute().items()})
        self.evaluator.reset()

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW over the parameter groups, and its schedule, stepped every iteration."""
        optimiser = AdamW(parameter_groups(self.model, self.optimisation))
        return {"optimizer": optimiser, "lr_scheduler": LambdaLR(optimiser, self.optimisation.factor)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write beside the tensors what the shapes do not tell, so that ``load`` takes the checkpoint."""
        checkpoint["health"] = dict(self.health)
        if isinstance(self.model, EntitySegmenter):
            checkpoint.update(describe(self.model.architecture, self.model.settings, self.model.classes))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        self.health = Counter(checkpoint["health"])

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a validation batch; the groups of a training step move one by one, when they are needed."""
        return batch if isinstance(batch[0], TrainingBatch) else (batch[0].to(device), batch[1])

    def _on_device(self, group: TrainingBatch) -> TrainingBatch:
        features = group.features and {stride: f.to(self.device).float() for stride, f in group.features.items()}
        return TrainingBatch(group.views.to(self.device), _moved(group.targets, self.device), features)


def _moved(targets: Iterable[Target], device: torch.device) -> list[Target]:
    return [target.to(device) for target in targets]
