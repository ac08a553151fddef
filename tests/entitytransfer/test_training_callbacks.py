"""What a training run shows: the forecast of a dry run, and pictures of validation in TensorBoard."""

import io
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from cropformer import Entities, InputError
from entitytransfer.datasets import coco
from entitytransfer.training import progress as training_progress
from entitytransfer.training.image_grids import ImageGrids, side_by_side
from entitytransfer.training.progress import Forecast, ProgressLines

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"


class Nothing(lightning.LightningModule):
    """Learns nothing, and finds nothing in a validation image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        return self.weight * batch.sum()

    def validation_step(self, batch: tuple[None, list], _: int) -> list[Entities]:
        return [Entities.empty(sample.size_hw) for sample in batch[1]]

    def transfer_batch_to_device(self, batch: object, device: torch.device, dataloader_idx: int) -> object:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, callback: lightning.Callback, *, validates: bool, logger: bool = False) -> None:
    """Two steps, with a validation after each of them."""
    trainer = lightning.Trainer(
        max_steps=2,
        accelerator="cpu",
        callbacks=[callback],
        logger=TensorBoardLogger(folder, name="", version="log") if logger else False,
        val_check_interval=1,
        limit_val_batches=1.0 if validates else 0,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    training = DataLoader(torch.ones(2, 3))
    validation = DataLoader([(None, [sample]) for sample in coco.read(TINY)], batch_size=None)
    trainer.fit(Nothing(), training, validation)


# --- forecast


class Clock:
    """A clock that goes on by 1 s, 2 s, 3 s, ... whenever it is looked at."""

    def __init__(self) -> None:
        self.looks, self.now = 0, 0.0

    def monotonic(self) -> float:
        self.looks += 1
        self.now += self.looks
        return self.now


def test_the_last_step_is_the_measure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training_progress, "time", Clock())
    fit(tmp_path, Forecast(steps=2400, samples=16, kind="images", validate_every=100), validates=False)
    # The clock is looked at when training starts and after each step: the second step takes 3 s.
    line = capsys.readouterr().out
    assert line.startswith("dry run: 3.00 s/step, 5.33 images/s, 2.0 h for 2400 steps of 16 images, ")
    assert line.endswith(" GiB peak memory of a process\n")


def test_validation_is_counted_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training_progress, "time", Clock())
    fit(tmp_path, Forecast(steps=2400, samples=16, kind="clips", validate_every=100), validates=True)
    first, second = capsys.readouterr().out.splitlines()
    # Looks: 1 start; 2 first step; 3 validation starts; 4 to 7 its clips; 8 its end; 9 second step; 10; 11 to 14.
    assert first.startswith("dry run: 9.00 s/step")
    assert second == f"validation: {14 * 4 * 24 / 3600:.1f} h more for 24 times 4 clips in each process"


@pytest.mark.parametrize("is_first", [True, False])
def test_only_the_first_process_speaks(capsys, is_first):
    trainer = SimpleNamespace(is_global_zero=is_first, global_step=1, max_steps=2, callback_metrics={"val/AP": 0.5})
    lines = ProgressLines(every=1)
    lines.on_train_batch_end(trainer, None, {"loss": 2.0})
    lines.on_validation_end(trainer, None)
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == (2 if is_first else 0)
    assert all(line.startswith("step 1") for line in printed)


# --- pictures


def pictures(folder: Path) -> dict[str, list[np.ndarray]]:
    """What TensorBoard shows: tag to pictures, uint8 RGB [H,W,3], in the order of the steps."""
    events = EventAccumulator(str(folder / "log"), size_guidance={"images": 0}).Reload()
    tags = events.Tags()["images"]
    return {
        tag: [np.asarray(Image.open(io.BytesIO(event.encoded_image_string))) for event in events.Images(tag)]
        for tag in tags
    }


def test_the_first_samples_are_drawn_at_every_validation(tmp_path):
    fit(tmp_path, ImageGrids(count=3, max_side=100), validates=True, logger=True)
    shown = pictures(tmp_path)
    samples = coco.read(TINY)[:3]
    assert list(shown) == [f"validation/{sample.image_id}" for sample in samples]
    for sample, (first, second) in zip(samples, shown.values()):
        expected = side_by_side(Entities.empty(sample.size_hw), sample, max_side=100)
        assert np.array_equal(first, expected)
        assert np.array_equal(second, expected)


def test_without_a_logger_nothing_is_drawn(tmp_path):
    fit(tmp_path, ImageGrids(), validates=True)
    assert list(tmp_path.iterdir()) == []


def test_photo_prediction_and_truth_lie_beside_each_other():
    sample = coco.read(TINY)[0]
    height, width = sample.size_hw
    photo, truth = sample.read_frame(), sample.entity_masks()
    empty = side_by_side(Entities.empty(sample.size_hw), sample, max_side=10_000)
    assert empty.shape == (height, 3 * width, 3)
    assert np.array_equal(empty[:, :width], photo)
    assert np.array_equal(empty[:, width : 2 * width], photo)
    right = Entities.from_masks(truth, -truth.sum(axis=(1, 2)), np.zeros(len(truth)))
    full = side_by_side(right, sample, max_side=10_000)
    assert np.array_equal(full[:, width : 2 * width], full[:, 2 * width :])
    assert not np.array_equal(full[:, 2 * width :], photo)


def test_pictures_of_another_size_are_refused():
    sample = coco.read(TINY)[0]
    with pytest.raises(InputError, match="Cannot draw on an image of"):
        side_by_side(Entities.empty((5, 5)), sample, max_side=100)
