"""Low-rank updates: nothing changes before training, little is trained, and what is saved is an ordinary model."""

import copy

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

import cropformer
from cropformer import EntitySegmenter, EntityTraining, InputError, Optimisation, SetLoss, add_low_rank, merge_low_rank
from cropformer.training_views import TrainingBatch
from cropformer.views import Target, make_views

CLASS_HEAD = "query_decoder.class_head."


@pytest.fixture
def adapted(tiny_model) -> EntitySegmenter:
    """The tiny model with updates of rank 2."""
    torch.manual_seed(1)
    model = copy.deepcopy(tiny_model)
    add_low_rank(model, rank=2)
    return model


def outputs(model: EntitySegmenter, photo) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        queries = model.eval()(make_views(photo, crops=0, short_side=64, max_side=96))
    return queries.class_logits, queries.mask_logits()


def disturb(model: EntitySegmenter) -> None:
    """Move all that is trained."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))


def test_fresh_updates_change_nothing(tiny_model, adapted, photo):
    for ours, before in zip(outputs(adapted, photo), outputs(tiny_model, photo)):
        assert torch.equal(ours, before)
    state = merge_low_rank(adapted.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in tiny_model.state_dict().items())


def test_merged_weights_are_those_of_an_ordinary_model(tiny_model, adapted, photo):
    disturb(adapted)
    merged = merge_low_rank(adapted.state_dict())
    assert merged.keys() == tiny_model.state_dict().keys()
    ordinary = copy.deepcopy(tiny_model)
    ordinary.load_state_dict(merged)
    for ours, theirs in zip(outputs(ordinary, photo), outputs(adapted, photo)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert not torch.equal(outputs(ordinary, photo)[1], outputs(tiny_model, photo)[1])


def test_an_update_has_the_rank_that_was_asked_for(tiny_model, adapted):
    disturb(adapted)
    name = "query_decoder.layers.0.self_attention.in_proj_weight"
    difference = merge_low_rank(adapted.state_dict())[name] - tiny_model.state_dict()[name]
    assert torch.linalg.matrix_rank(difference, rtol=1e-3) == 2


@pytest.mark.parametrize(("name", "most"), [("nano", 0.08), ("mask2former_swin_t", 0.02)])
def test_few_parameters_are_trained(name, most):
    """Norms, embeddings and the class head among them; nothing else but the updates."""
    with torch.device("meta"):
        model = cropformer.build_model(name)
    add_low_rank(model, rank=4)
    trained = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    assert 0 < sum(trained.values()) < most * sum(p.numel() for p in model.parameters())
    others = {n for n in trained if "parametrizations" not in n and not n.startswith(CLASS_HEAD)}
    assert all("norm" in n or "bn" in n or "embed" in n or "query_" in n for n in others)
    updated = {n.split(".")[0] for n in trained if "parametrizations" in n}
    assert {"backbone", "pixel_decoder", "query_decoder"} <= updated


def test_what_starts_fresh_is_trained_as_a_whole(tiny_model):
    name = "query_decoder.mask_head.layers.0.weight"
    add_low_rank(tiny_model, rank=2, fresh=[name])
    assert tiny_model.get_parameter(name).requires_grad
    assert not tiny_model.get_parameter("query_decoder.mask_head.layers.0.bias").requires_grad


def test_what_is_frozen_stays_frozen(tiny_model):
    tiny_model.backbone.requires_grad_(False)
    add_low_rank(tiny_model, rank=2)
    assert not [name for name, p in tiny_model.backbone.named_parameters() if p.requires_grad or "parametrized" in name]


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_that_makes_no_sense_is_one_sentence(tiny_model, rank):
    with pytest.raises(InputError, match=f"updates of rank {rank} change nothing; give a rank of at least 1, or null"):
        add_low_rank(tiny_model, rank=rank)


def test_parts_of_no_update_stay_as_they_are():
    """What a damaged file may hold becomes a name that no model knows, and is reported as such."""
    place = "layer.parametrizations.weight."
    whole = {place + "original": torch.eye(3), place + "0.up": torch.ones(3, 1), place + "0.down": torch.ones(1, 3)}
    assert merge_low_rank(whole).keys() == {"layer.weight"}
    for damaged in (
        {name: tensor for name, tensor in whole.items() if not name.endswith("up")},
        whole | {place + "0.down": torch.ones(1, 4)},
        whole | {place + "0.up": torch.ones(3)},
    ):
        assert merge_low_rank(damaged).keys() == damaged.keys()


# --- in training


def batch(photo) -> list[TrainingBatch]:
    views = make_views(photo, crops=0, short_side=64, max_side=96)
    height, width = views.pixels.shape[-2:]
    masks = torch.zeros(2, 1, height, width, dtype=torch.bool)
    masks[0, :, :30], masks[1, :, 34:60, :40] = True, True
    return [TrainingBatch(views, [Target(torch.zeros(2, dtype=torch.int64), masks, masks.flatten(2).any(2))], seed=3)]


def train(model: EntitySegmenter, photo, *, steps: int) -> tuple[list[float], lightning.Trainer]:
    losses = []

    class Note(lightning.Callback):
        def on_train_batch_end(self, trainer, module, outputs, *_):
            losses.append(float(outputs["loss"]))

    module = EntityTraining(model, loss=SetLoss(points=64), optimisation=Optimisation(lr=2e-3, max_steps=60))
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Note()],
    )
    trainer.fit(module, DataLoader([batch(photo)] * steps, batch_size=None))
    return losses, trainer


def test_training_updates_lowers_the_loss_and_leaves_the_matrices_alone(tiny_model, adapted, photo):
    losses, _ = train(adapted.train(), photo, steps=30)
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    name = "pixel_decoder.layers.0.feedforward.linear1"
    kept = adapted.state_dict()[f"{name}.parametrizations.weight.original"]
    assert torch.equal(kept, tiny_model.state_dict()[f"{name}.weight"])
    assert not torch.equal(merge_low_rank(adapted.state_dict())[f"{name}.weight"], kept)


def test_a_checkpoint_of_a_run_is_a_model(adapted, photo, tmp_path):
    _, trainer = train(adapted, photo, steps=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded, report = cropformer.load_with_report(tmp_path / "last.ckpt")
    assert report.exact
    expected = merge_low_rank(adapted.state_dict())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
