"""Steps skipped because a loss or a gradient was not finite: their images are named, and too many end the run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from cropformer import JobError, TrainingBatch
from entitytransfer.evaluators.gathering import gather


class SkippedSteps(Callback):
    """Writes one line for each group of a skipped step: step, loss (null if not finite) and image ids.

    Args:
        path: the file; lines are added to what it holds.
        limit: skipped steps in a row that end the run.

    Raises:
        JobError: from the training loop, after ``limit`` skipped steps in a row.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        self.path, self.limit = path, limit
        self.in_a_row = 0

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: Any, outputs: dict[str, Any], batch: Sequence[TrainingBatch], *_: Any
    ) -> None:
        """Note a skipped step; all processes agree on what was skipped."""
        self.in_a_row = self.in_a_row + 1 if outputs["skipped"] else 0
        if not outputs["skipped"]:
            return
        records = [
            {
                "step": trainer.global_step - 1,
                "loss": loss if math.isfinite(loss) else None,
                "image_ids": list(group.image_ids),
            }
            for loss, group in zip(outputs["group_losses"], batch)
        ]
        records = gather(records)
        if trainer.is_global_zero:
            with self.path.open("a", encoding="utf-8") as lines:
                lines.writelines(json.dumps(record) + "\n" for record in records)
        if self.in_a_row >= self.limit:
            raise JobError(
                f"{self.in_a_row} steps in a row had no finite loss or gradient; their images are listed in "
                f"{self.path}: look at them, lower optimisation.lr, or train with trainer.precision=32-true."
            )
