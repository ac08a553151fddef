"""What a training run says: a bar on a terminal, plain lines in a log, a forecast after a dry run."""

import resource
import sys
import time
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar

from entitytransfer.clip_sample import Kind


def progress_callback(*, every: int = 20) -> Callback:
    """A progress bar on a terminal, otherwise one line in every ``every`` steps."""
    return RichProgressBar() if sys.stderr.isatty() else ProgressLines(every=every)


class ProgressLines(Callback):
    """Prints step, mean loss, seconds for a step and the time left; the first of several processes speaks for all."""

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
        _say(
            trainer,
            f"step {trainer.global_step}/{trainer.max_steps}  loss {mean:.2f}  "
            f"{step_s:.2f} s/step  {left_min:.0f} min left",
        )
        self.losses, self.since = [], time.monotonic()

    def on_validation_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Print what validation found."""
        found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        numbers = "  ".join(f"{name[4:]} {value:.4f}" for name, value in found.items())
        _say(trainer, f"step {trainer.global_step}  validation  {numbers}")
        self.since = time.monotonic()


def _say(trainer: lightning.Trainer, line: str) -> None:
    if trainer.is_global_zero:
        print(line, file=sys.stderr, flush=True)


class Forecast(Callback):
    """After the few steps of a dry run, prints what the whole run would take in time and memory.

    The last step is the measure, with the wait for its data: the first one also pays for warming up. Where the dry
    run validates, the last validation image is the measure of all validations.

    Args:
        steps: length of the whole run.
        samples: images or clips in a step, over all processes.
        kind: which of the two.
        validate_every: steps between two validations of the whole run.
    """

    def __init__(self, *, steps: int, samples: int, kind: Kind, validate_every: int) -> None:
        self.steps, self.samples, self.kind, self.validate_every = steps, samples, kind, validate_every
        self.step_s: float | None = None
        self.validation_sample_s: float | None = None
        self.since = 0.0

    def on_train_start(self, *_: Any) -> None:
        """Start the clock."""
        self.since = time.monotonic()

    def on_train_batch_end(self, *_: Any) -> None:
        """A step has ended, and the wait for the next one begins."""
        self.step_s = self._lap()

    def on_validation_start(self, *_: Any) -> None:
        """Start the clock anew, as after every part of the run."""
        self._lap()

    def on_validation_batch_end(self, *_: Any) -> None:
        """A validation sample is done."""
        self.validation_sample_s = self._lap()

    def on_validation_end(self, *_: Any) -> None:
        """The next step begins here."""
        self._lap()

    def on_train_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Print the forecast."""
        if not trainer.is_global_zero or self.step_s is None:
            return
        hours = self.step_s * self.steps / 3600
        memory = peak_memory_gib(trainer.strategy.root_device)
        print(
            f"dry run: {self.step_s:.2f} s/step, {self.samples / self.step_s:.2f} {self.kind}/s, "
            f"{hours:.1f} h for {self.steps} steps of {self.samples} {self.kind}, "
            f"{memory:.1f} GiB peak memory of a process"
        )
        if self.validation_sample_s is not None:
            samples = sum(len(loader) for loader in _listed(trainer.val_dataloaders))
            times = self.steps // self.validate_every
            hours = self.validation_sample_s * samples * times / 3600
            print(f"validation: {hours:.1f} h more for {times} times {samples} {self.kind} in each process")

    def _lap(self) -> float:
        """Seconds since the last call; the clock starts anew."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # otherwise the clock would tell when the work was asked for
        before, self.since = self.since, time.monotonic()
        return self.since - before


def _listed(loaders: Any) -> list[Any]:
    return loaders if isinstance(loaders, list) else [loaders]


def peak_memory_gib(device: torch.device) -> float:
    """Highest memory use of this process so far in GiB: on the GPU that it computes on, else of its own."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
