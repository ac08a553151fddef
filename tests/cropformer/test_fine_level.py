"""The fine level: masks at stride 2 that start as those of stride 4, learn, and are kept with the weights."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import lightning
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import cropformer
from cropformer import EntityTraining, Optimisation, SetLoss, TrainingCrop, make_views, read_checkpoint, training_views
from cropformer.checkpoint import load_into
from cropformer.memory import NetworkMemory
from cropformer.optimisation import parameter_groups
from cropformer.training_views import TrainingBatch


@pytest.fixture
def fine_model(tiny_model) -> cropformer.EntitySegmenter:
    """The tiny model with a fresh fine level."""
    return with_fine_level(tiny_model)


def with_fine_level(model: cropformer.EntitySegmenter) -> cropformer.EntitySegmenter:
    fine = cropformer.build(replace(model.architecture, fine_level=True), settings=model.settings).eval()
    fine.load_state_dict(fine.state_dict() | model.state_dict())
    return fine


def taught(model: cropformer.EntitySegmenter) -> cropformer.EntitySegmenter:
    """The model with a fine level that has something to add."""
    torch.manual_seed(1)
    torch.nn.init.normal_(model.fine_level.output.weight)
    return model


def views_of(photo, *, crops: int = 4) -> cropformer.Views:
    return make_views(photo, crops=crops, short_side=64, max_side=107)


@torch.no_grad()
def masks_of(model: cropformer.EntitySegmenter, photo) -> torch.Tensor:
    return model(views_of(photo)).mask_logits()


# --- what it is


@pytest.mark.parametrize("crops", [0, 4])
def test_a_fresh_one_only_resizes_masks(tiny_model, fine_model, photo, crops):
    views = views_of(photo, crops=crops)
    with torch.no_grad():
        plain, fine = tiny_model(views), fine_model(views)
    masks, expected = fine.mask_logits().flatten(0, 1), plain.mask_logits().flatten(0, 1)  # [B,Q,T,h,w] -> [BQ,T,h,w]
    assert masks.shape[-2:] == tuple(side // 2 for side in views.pixels.shape[-2:])
    resized = F.interpolate(expected, size=masks.shape[-2:], mode="bilinear", align_corners=False)
    assert torch.allclose(masks, resized, atol=1e-3)
    pairs = [(fine, plain), (fine.per_view, plain.per_view)] if crops else [(fine, plain)]
    for ours, theirs in pairs:  # to the last bit: attention is masked by what it always was
        assert torch.equal(ours.embeddings, theirs.embeddings)
        assert torch.equal(ours.class_logits, theirs.class_logits)
        assert ours.mask_features.shape[-2:] == masks.shape[-2:]


def test_entities_of_a_fresh_one_differ_along_their_outlines_only(tiny_model, fine_model, photo):
    plain, fine = tiny_model.segment(photo, overlap=True), fine_model.segment(photo, overlap=True)
    ours, theirs = (dict(zip(found.query_ids.tolist(), found.masks())) for found in (fine, plain))
    assert len(plain) > 3
    assert ours.keys() == theirs.keys()
    assert all((ours[query] ^ theirs[query]).mean() < 0.04 for query in ours)


def test_masks_are_told_what_the_pixels_show(fine_model, photo):
    """Neighbouring places of the stride-2 grid differ, though they lie in one place of the stride-4 grid."""
    before, after = masks_of(fine_model, photo), masks_of(taught(fine_model), photo)
    change = (after - before)[..., 4:20, 4:20]
    inside = F.avg_pool2d(change.flatten(0, 2), 2)  # [B,Q,T,h,w] -> [BQT,h,w]
    assert (change.flatten(0, 2) - inside.repeat_interleave(2, -1).repeat_interleave(2, -2)).abs().max() > 0.1


def test_views_one_by_one_are_views_together(fine_model, photo):
    pixels = views_of(photo).pixels[0]
    together = taught(fine_model).encode(pixels)
    with torch.no_grad():
        singly = fine_model.encode(pixels)
    assert together.finest.requires_grad
    assert torch.allclose(singly.finest, together.finest, atol=1e-4)


def test_half_precision_gives_nearly_the_same(fine_model, photo):
    exact, rough = (taught(fine_model).segment(photo, precision=name) for name in ("fp32", "bf16"))
    assert (exact.id_map() == rough.id_map()).mean() > 0.8


def test_it_takes_memory_that_is_counted(fine_model, photo):
    plain, fine = (NetworkMemory.estimate((64, 96), views=5, channels=32, fine_level=fine) for fine in (False, True))
    assert fine.shared - plain.shared == 5 * (32 * 48) * 32 * 4  # bytes of the stride-2 features of five views
    assert fine.encoding > plain.encoding
    with pytest.warns(UserWarning, match="max_memory is"):
        bound = fine_model.segment(photo, max_memory="1MB")
    assert (bound.id_map() == fine_model.segment(photo).id_map()).all()


# --- learning


def batch_of(photo) -> TrainingBatch:
    """One image, full view and one crop, with its left and its right half as entities."""
    left = torch.arange(photo.shape[1]).expand(photo.shape[:2]) < photo.shape[1] // 2
    masks = torch.stack((left, ~left)).numpy()
    views, target = training_views(photo, masks, TrainingCrop(32, 64, flip=False, places=((1, 0),)))
    views = cropformer.batch_views([views])
    return TrainingBatch(views, [target.padded(tuple(views.pixels.shape[-2:]))], image_ids=("a",))


def train(model: cropformer.EntitySegmenter, photo, *, steps: int) -> lightning.Trainer:
    module = EntityTraining(model, loss=SetLoss(points=64), optimisation=Optimisation(lr=1e-2, clip_norm=1.0))
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, torch.utils.data.DataLoader([[batch_of(photo)]] * steps, batch_size=None))
    return trainer


def test_one_step_changes_masks(fine_model, photo):
    before = masks_of(fine_model, photo)
    for name, parameter in fine_model.named_parameters():
        parameter.requires_grad_(name.startswith("fine_level."))
    train(fine_model, photo, steps=1)
    assert (masks_of(fine_model.eval(), photo) - before).abs().max() > 1e-3


def test_all_of_it_learns(fine_model, photo):
    before = {name: parameter.detach().clone() for name, parameter in fine_model.fine_level.named_parameters()}
    train(fine_model, photo, steps=3)
    after = dict(fine_model.fine_level.named_parameters())
    assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_it_learns_at_the_full_rate(fine_model):
    groups = parameter_groups(fine_model, Optimisation(lr=1e-3, backbone_lr_factor=0.1))
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert {rates[id(parameter)] for parameter in fine_model.fine_level.parameters()} == {1e-3}


# --- weights


def save(model: cropformer.EntitySegmenter, path: Path) -> None:
    cropformer.save_checkpoint(path, model.state_dict(), architecture=model.architecture, settings=model.settings)


def save_without_numbers(model: cropformer.EntitySegmenter, path: Path) -> None:
    save_file(model.state_dict(), path)


def save_training(model: cropformer.EntitySegmenter, path: Path) -> None:
    module = EntityTraining(model, loss=SetLoss(), optimisation=Optimisation())
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)


@pytest.mark.parametrize(
    ("write", "name"), [(save, "a.safetensors"), (save_without_numbers, "b.safetensors"), (save_training, "c.ckpt")]
)
def test_it_is_kept_with_the_weights(fine_model, photo, tmp_path, write, name):
    write(taught(fine_model), tmp_path / name)
    loaded = cropformer.load(tmp_path / name)
    assert loaded.architecture.fine_level
    assert torch.equal(masks_of(loaded, photo), masks_of(fine_model, photo))


def test_older_files_have_none(tiny_model, photo, tmp_path):
    numbers = asdict(tiny_model.architecture)
    del numbers["fine_level"]
    save_file(tiny_model.state_dict(), tmp_path / "old.safetensors", {"architecture": json.dumps(numbers)})
    loaded = cropformer.load(tmp_path / "old.safetensors")
    assert loaded.fine_level is None
    assert loaded.architecture == read_checkpoint(tmp_path / "old.safetensors").architecture
    assert torch.equal(masks_of(loaded, photo), masks_of(tiny_model, photo))


def test_weights_without_one_leave_it_fresh(tiny_model, tiny_architecture, tmp_path):
    save(tiny_model, tmp_path / "plain.safetensors")
    model = cropformer.build(replace(tiny_architecture, fine_level=True))
    report = load_into(model, read_checkpoint(tmp_path / "plain.safetensors"))
    assert {item.name for item in report.reinitialised} == {
        f"fine_level.{name}" for name in model.fine_level.state_dict()
    }
    assert "re-initialised fine_level (10 tensors, " in str(report)
