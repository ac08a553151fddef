"""Training: who is decayed, who learns at what rate, what stays frozen, what a step is, and when it is skipped."""

import math
import warnings
from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch
from torch import nn

from cropformer import SetLoss, checkpoint_activations, cropformer_losses, make_views, training_views
from cropformer.losses import Normalisers, entity_counts
from cropformer.optimisation import Optimisation, parameter_groups
from cropformer.training import EntityTraining
from cropformer.training_views import TrainingBatch, TrainingCrop
from cropformer.views import batch_views

# --- parameter groups and schedule, as published


@pytest.fixture
def rules(tiny_model) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter, by its name."""
    names = {id(parameter): name for name, parameter in tiny_model.named_parameters()}
    groups = parameter_groups(tiny_model, Optimisation(lr=1e-3, backbone_lr_factor=0.1, weight_decay=0.05))
    listed = [names[id(p)] for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(names.values())  # each once
    return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


@pytest.mark.parametrize(
    ("name", "lr", "decay"),
    [
        ("backbone.patch_embed.proj.weight", 1e-4, 0.05),
        ("backbone.patch_embed.proj.bias", 1e-4, 0.05),  # biases are decayed, as published
        ("backbone.patch_embed.norm.weight", 1e-4, 0),
        ("backbone.norms.3.bias", 1e-4, 0),
        ("backbone.layers.2.blocks.1.attn.relative_position_bias_table", 1e-4, 0),
        ("backbone.layers.2.blocks.1.attn.qkv.bias", 1e-4, 0.05),
        ("backbone.layers.0.downsample.norm.weight", 1e-4, 0),
        ("pixel_decoder.level_embed", 1e-3, 0.05),  # a plain parameter, hence decayed
        ("pixel_decoder.input_projections.0.norm.weight", 1e-3, 0),
        ("pixel_decoder.layers.0.attention.sampling_offsets.bias", 1e-3, 0.05),
        ("query_decoder.query_features.weight", 1e-3, 0),
        ("query_decoder.query_positions.weight", 1e-3, 0),
        ("query_decoder.level_embed.weight", 1e-3, 0),
        ("query_decoder.class_head.bias", 1e-3, 0.05),
        ("query_decoder.layers.0.cross_attention.in_proj_weight", 1e-3, 0.05),
        ("association.feedforward.norm.weight", 1e-3, 0),
        ("association.self_attention.out_proj.bias", 1e-3, 0.05),
    ],
)
def test_rate_and_decay(rules, name, lr, decay):
    assert rules[name] == (pytest.approx(lr), decay)


def test_rules_hold_for_every_parameter(rules, tiny_model):
    modules = dict(tiny_model.named_modules())
    spared = (nn.LayerNorm, nn.GroupNorm, nn.Embedding)
    for name, (lr, decay) in rules.items():
        owner, _, last = name.rpartition(".")
        free = isinstance(modules[owner], spared) or last == "relative_position_bias_table"
        assert decay == (0 if free else 0.05), name
        assert lr == pytest.approx(1e-4 if name.startswith("backbone.") else 1e-3), name


def test_the_schedule_is_a_polynomial():
    optimisation = Optimisation(max_steps=1000)
    assert optimisation.factor(0) == 1.0
    assert optimisation.factor(500) == pytest.approx(0.5**0.9)
    assert optimisation.factor(999) == pytest.approx(0.001**0.9)
    assert optimisation.factor(1000) == optimisation.factor(2000) == 0.0


def test_warm_up_rises_from_a_tenth():
    optimisation = Optimisation(max_steps=1000, warmup_steps=100)
    decay = Optimisation(max_steps=1000)
    assert optimisation.factor(0) == pytest.approx(0.1)
    assert optimisation.factor(50) == pytest.approx(0.55 * decay.factor(50))
    assert optimisation.factor(100) == pytest.approx(decay.factor(100))
    assert optimisation.factor(700) == decay.factor(700)


def test_published_numbers_are_the_defaults():
    defaults = Optimisation()
    assert (defaults.lr, defaults.backbone_lr_factor, defaults.weight_decay) == (1e-4, 0.1, 0.05)
    assert (defaults.max_steps, defaults.power, defaults.warmup_steps) == (34_375, 0.9, 0)
    assert defaults.clip_norm == 0.01
    loss = SetLoss()
    assert (loss.points, loss.oversample, loss.importance, loss.no_object) == (12_544, 3.0, 0.75, 0.1)
    assert (loss.weights.classes, loss.weights.mask, loss.weights.dice) == (2, 5, 5)


# --- steps


@pytest.fixture
def batch(photo) -> TrainingBatch:
    """One image, full view and one crop, with the left and the right half as its entities."""
    left = torch.arange(photo.shape[1]).expand(photo.shape[:2]) < photo.shape[1] // 2
    return group_of(photo, torch.stack((left, ~left)))


def group_of(photo: np.ndarray, masks: torch.Tensor, *, seed: int = 0) -> TrainingBatch:
    views, target = training_views(photo, masks.numpy(), TrainingCrop(32, 64, flip=False, places=((1, 0),)))
    views = batch_views([views])
    return TrainingBatch(views, [target.padded(tuple(views.pixels.shape[-2:]))], image_ids=("a",), seed=seed)


def loader(batches: list) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(batches, batch_size=None)


def train(module: EntityTraining, steps: list, *, validation: list | None = None, **options) -> lightning.Trainer:
    """Some steps, each a list of groups, without files."""
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=len(steps),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about workers and loggers
        trainer.fit(module, loader(steps), validation and loader(validation))
    return trainer


def module_of(model, **numbers) -> EntityTraining:
    return EntityTraining(model.train(), loss=SetLoss(points=64), optimisation=Optimisation(**numbers))


def state_of(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_training_learns(tiny_model, batch):
    """Forty steps on one image lower its loss and move every part of the model."""
    module = module_of(tiny_model, lr=1e-3, max_steps=1000)
    before = state_of(tiny_model)
    first = train(module, [[batch]]).callback_metrics["loss"].item()
    last = train(module, [[replace(batch, seed=step)] for step in range(40)]).callback_metrics["loss"].item()
    assert last < 0.85 * first
    assert [
        name for name, _ in tiny_model.named_parameters() if torch.equal(tiny_model.state_dict()[name], before[name])
    ] == []


def test_the_last_sets_terms_are_logged(tiny_model, batch):
    metrics = train(module_of(tiny_model), [[batch]]).callback_metrics
    terms = {f"loss/{level}/{term}" for level in ("view", "fused") for term in ("class", "mask", "dice")}
    assert terms <= set(metrics)
    assert metrics["loss"] > sum(metrics[name] for name in terms)  # the earlier sets count too


def test_the_rate_follows_the_schedule(tiny_model, batch):
    trainer = train(module_of(tiny_model, lr=1e-3, max_steps=4), [[batch]] * 2)
    rates = sorted({group["lr"] for group in trainer.optimizers[0].param_groups})
    assert rates == pytest.approx([1e-4 * 0.5**0.9, 1e-3 * 0.5**0.9])


def test_a_factor_of_zero_freezes_the_backbone(tiny_model, batch):
    module = module_of(tiny_model, backbone_lr_factor=0)
    before = state_of(tiny_model.backbone)
    trainer = train(module, [[batch]] * 2)
    after = tiny_model.backbone.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    trained = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(p) for name, p in tiny_model.named_parameters() if not name.startswith("backbone.")}


def test_cached_features_stand_in_for_pixels(tiny_model, batch):
    """A frozen backbone that is not asked gives the same loss as one that is."""
    tiny_model.eval()  # no stochastic depth
    with torch.no_grad():
        features = tiny_model.backbone(batch.views.pixels.flatten(0, 1))  # [B,T,3,H,W] -> [BT,3,H,W]
    cached = replace(batch, features={stride: f.half() for stride, f in features.items()})
    module = EntityTraining(
        tiny_model, loss=SetLoss(points=64), optimisation=Optimisation(lr=0.0, backbone_lr_factor=0)
    )
    losses = [train(module, [[group]]).callback_metrics["loss"].item() for group in (batch, cached)]
    assert losses[0] != losses[1]  # which are halves of floats
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


def gradients_of(model, groups: list[TrainingBatch], *, trained: bool = False) -> dict[str, torch.Tensor]:
    """The gradient of one step, before it is clipped."""
    module = EntityTraining(
        model.train(trained), loss=SetLoss(points=64), optimisation=Optimisation(lr=0.0, clip_norm=math.inf)
    )
    found = {}

    class Watch(lightning.Callback):
        def on_before_optimizer_step(self, *_) -> None:
            found.update({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    train(module, [groups], callbacks=[Watch()])
    return found


def test_a_step_is_the_mean_over_its_groups_by_common_normalisers(tiny_model, photo):
    """Groups of 1 and 3 entities: the mask losses of both are divided by 2, not by their own counts."""
    columns = torch.arange(photo.shape[1]).expand(photo.shape[:2])
    one = group_of(photo, columns[None] < 60, seed=1)
    three = group_of(photo, torch.stack([columns // 44 == i for i in range(3)]), seed=2)
    together = gradients_of(tiny_model, [one, three])
    normalisers = Normalisers(view=sum(entity_counts(g.targets)[0] for g in (one, three)) / 2, fused=2.0)
    tiny_model.zero_grad()
    for group in (one, three):
        torch.manual_seed(group.seed)
        queries = tiny_model(group.views)
        losses = cropformer_losses(queries, group.targets, loss=SetLoss(points=64), normalisers=normalisers)
        (torch.stack(list(losses.values())).sum() / 2).backward()
    for name, parameter in tiny_model.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_random_numbers_depend_on_the_group_alone(tiny_model, batch):
    """Whatever was drawn before, and with stochastic depth, a group's gradient is the same."""
    first = gradients_of(tiny_model, [replace(batch, seed=7)], trained=True)
    torch.rand(5)
    again = gradients_of(tiny_model, [replace(batch, seed=7)], trained=True)
    other = gradients_of(tiny_model, [replace(batch, seed=8)], trained=True)
    assert all(torch.equal(gradient, again[name]) for name, gradient in first.items())
    assert any(not torch.equal(gradient, other[name]) for name, gradient in first.items())


def test_images_without_entities_still_reach_every_parameter(tiny_model, photo):
    """Or processes would wait for each other's gradients for ever."""
    empty = group_of(photo, torch.zeros(0, *photo.shape[:2], dtype=torch.bool))
    assert set(gradients_of(tiny_model, [empty])) == {name for name, _ in tiny_model.named_parameters()}


def test_the_gradient_is_clipped_and_its_norm_logged(tiny_model, batch):
    metrics = train(module_of(tiny_model, clip_norm=0.01, lr=0.0), [[batch]]).callback_metrics
    free = gradients_of(tiny_model, [batch], trained=True)
    norm = torch.stack([gradient.norm() for gradient in free.values()]).norm()
    assert metrics["health/gradient_norm"].item() == pytest.approx(norm.item(), rel=1e-4)
    clipped = torch.stack([p.grad.norm() for p in tiny_model.parameters()]).norm()
    assert clipped.item() == pytest.approx(norm.item(), rel=1e-4)  # of the last call, which clips at infinity


# --- health


def test_what_is_lost_is_counted_and_said(tiny_model, batch, photo):
    """Ten queries, and an image with twelve entities; another without any; a third that lost two by resizing."""
    columns = torch.arange(photo.shape[1]).expand(photo.shape[:2])
    crowded = group_of(photo, torch.stack([columns // 11 == i for i in range(12)]))
    empty = group_of(photo, torch.zeros(0, *photo.shape[:2], dtype=torch.bool))
    module = module_of(tiny_model)
    trainer = train(module, [[crowded, empty], [replace(batch, lost=2), batch]])
    assert module.health == {
        "entities_beyond_queries": 2,
        "images_without_entities": 1,
        "entities_lost": 2,
        "steps_skipped": 0,
    }
    assert trainer.callback_metrics["health/entities_lost"] == 2
    assert trainer.callback_metrics["health/images_without_entities"] == 0  # of the last step


def broken(batch: TrainingBatch) -> TrainingBatch:
    """A group whose pixels are not numbers."""
    return replace(batch, views=replace(batch.views, pixels=batch.views.pixels * math.nan))


def test_a_step_without_a_finite_loss_changes_no_weight(tiny_model, batch):
    before, module = state_of(tiny_model), module_of(tiny_model, lr=1e-2)
    trainer = train(module, [[broken(batch)], [batch, broken(batch)]])
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_model.state_dict().items())
    assert trainer.global_step == 2
    assert trainer.optimizers[0].param_groups[-1]["lr"] < 1e-2  # the schedule went on
    assert module.health["steps_skipped"] == 2


def test_training_goes_on_after_a_skipped_step(tiny_model, batch):
    module, before = module_of(tiny_model, lr=1e-3), state_of(tiny_model)
    train(module, [[broken(batch)], [batch]])
    assert any(not torch.equal(tensor, before[name]) for name, tensor in tiny_model.state_dict().items())
    assert all(tensor.isfinite().all() for tensor in tiny_model.state_dict().values())


# --- activation checkpointing


def test_checkpointed_activations_give_the_same_gradients(tiny_model, batch):
    """With stochastic depth: what is computed again draws the same random numbers."""
    names, plain = list(tiny_model.state_dict()), gradients_of(tiny_model, [batch], trained=True)
    checkpoint_activations(tiny_model)
    recomputed = gradients_of(tiny_model, [batch], trained=True)
    assert list(tiny_model.state_dict()) == names
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-5, atol=1e-7)


def test_checkpointed_activations_are_not_kept(tiny_model, batch):
    """Fewer bytes wait for the backward pass."""
    plain = bytes_kept(tiny_model, batch)
    checkpoint_activations(tiny_model)
    assert bytes_kept(tiny_model, batch) < 0.7 * plain


def bytes_kept(model, batch: TrainingBatch) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        queries = model.train()(batch.views)
    assert queries.class_logits.requires_grad
    return sum(kept.values())


# --- validation


class Counting:
    """An evaluator that counts what it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str]] = []

    def update(self, entities, sample) -> None:
        self.seen.append((len(entities), sample))

    def compute(self) -> dict[str, float]:
        return {"samples": float(len(self.seen))}

    def reset(self) -> None:
        self.seen = []


def test_validation_asks_the_evaluator(tiny_model, batch, photo):
    views = batch_views([make_views(photo, crops=4, short_side=32, max_side=64)] * 2)
    evaluator = Counting()
    module = EntityTraining(
        tiny_model.train(), loss=SetLoss(points=64), optimisation=Optimisation(), evaluator=evaluator
    )
    trainer = train(module, [[batch]], validation=[(views, ["first", "second"])])
    assert trainer.callback_metrics["val/samples"] == 2
    assert evaluator.seen == []  # ready for the next round
