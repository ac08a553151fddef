"""Progress of a training run as plain lines, for logs and pipes where a moving bar is noise."""

import sys
import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, RichProgressBar


def progress_callback(*, every: int = 20) -> Callback:
    """A progress bar on a terminal, otherwise one line in every ``every`` steps."""
    return RichProgressBar() if sys.stderr.isatty() else ProgressLines(every=every)


class ProgressLines(Callback):
    """Prints step, mean loss, seconds for a step and the time left."""

    def __init__(self, *, every: int) -> None:
        self.every = every
        self.losses: list[float] = []
        self.since = time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        """Note the loss; print when it is time."""
        self.losses.append(float(outputs["loss"]))
        if len(self.losses) < self.every:
            return
        step_s = (time.monotonic() - self.since) / len(self.losses)
        left_min = step_s * (trainer.max_steps - trainer.global_step) / 60
        mean = sum(self.losses) / len(self.losses)
        print(
            f"step {trainer.global_step}/{trainer.max_steps}  loss {mean:.2f}  "
            f"{step_s:.2f} s/step  {left_min:.0f} min left",
            file=sys.stderr,
            flush=True,
        )
        self.losses, self.since = [], time.monotonic()

    def on_validation_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Print what validation found."""
        found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        numbers = "  ".join(f"{name[4:]} {value:.4f}" for name, value in found.items())
        print(f"step {trainer.global_step}  validation  {numbers}", file=sys.stderr, flush=True)
        self.since = time.monotonic()
