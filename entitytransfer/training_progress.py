"""What a training run says: a bar on a terminal, plain lines in a log, a forecast after a dry run."""

import resource
import sys
import time
from typing import Any

import lightning
import torch
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


class Forecast(Callback):
    """After the two steps of a dry run, prints what the whole run would take in time and memory.

    The second step is the measure: the first one also pays for warming up.

    Args:
        steps: length of the whole run.
    """

    def __init__(self, *, steps: int) -> None:
        self.steps = steps
        self.step_s = 0.0
        self.since = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock."""
        self.since = time.monotonic()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop the clock."""
        self.step_s = time.monotonic() - self.since

    def on_train_end(self, *_: Any) -> None:
        """Print the forecast."""
        hours = self.step_s * self.steps / 3600
        print(
            f"dry run: {self.step_s:.2f} s/step, {hours:.1f} h for {self.steps} steps, {peak_memory_gib():.1f} GiB peak"
        )


def peak_memory_gib() -> float:
    """Highest memory use so far in GiB: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
