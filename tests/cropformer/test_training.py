"""Training: who is decayed, who learns at what rate, what stays frozen, and a few real steps."""

import warnings

import lightning
import pytest
import torch
from torch import nn

from cropformer import SetLoss, make_views, training_views
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
    loss = SetLoss()
    assert (loss.points, loss.oversample, loss.importance, loss.no_object) == (12_544, 3.0, 0.75, 0.1)
    assert (loss.weights.classes, loss.weights.mask, loss.weights.dice) == (2, 5, 5)


# --- steps


@pytest.fixture
def batch(photo) -> TrainingBatch:
    """One image, full view and one crop, with the left and the right half as its entities."""
    left = torch.arange(photo.shape[1]).expand(photo.shape[:2]) < photo.shape[1] // 2
    masks = torch.stack((left, ~left)).numpy()
    views, target = training_views(photo, masks, TrainingCrop(32, 64, flip=False, places=((1, 0),)))
    views = batch_views([views])
    return TrainingBatch(views, [target.padded(tuple(views.pixels.shape[-2:]))])


def loader(batches: list) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(batches, batch_size=None)


def train(module: EntityTraining, batches: list, *, steps: int, validation: list | None = None) -> lightning.Trainer:
    """A few steps without files."""
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about workers and loggers
        trainer.fit(module, loader(batches), validation and loader(validation))
    return trainer


def module_of(model, **numbers) -> EntityTraining:
    return EntityTraining(model.train(), loss=SetLoss(points=64), optimisation=Optimisation(**numbers))


def test_training_learns(tiny_model, batch):
    """Forty steps on one image lower its loss and move every part of the model."""
    torch.manual_seed(0)
    module = module_of(tiny_model, lr=1e-3, max_steps=1000)
    before = {name: parameter.detach().clone() for name, parameter in tiny_model.named_parameters()}
    trainer = train(module, [batch] * 40, steps=1)
    first = trainer.callback_metrics["loss"].item()
    trainer = train(module, [batch] * 40, steps=40)
    last = trainer.callback_metrics["loss"].item()
    assert last < 0.85 * first
    still = [name for name, p in tiny_model.named_parameters() if torch.equal(p, before[name])]
    assert still == []


def test_the_last_sets_terms_are_logged(tiny_model, batch):
    metrics = train(module_of(tiny_model), [batch], steps=1).callback_metrics
    terms = {f"loss/{level}/{term}" for level in ("view", "fused") for term in ("class", "mask", "dice")}
    assert terms <= set(metrics)
    assert metrics["loss"] > sum(metrics[name] for name in terms)  # the earlier sets count too


def test_the_rate_follows_the_schedule(tiny_model, batch):
    trainer = train(module_of(tiny_model, lr=1e-3, max_steps=4), [batch] * 2, steps=2)
    rates = sorted({group["lr"] for group in trainer.optimizers[0].param_groups})
    assert rates == pytest.approx([1e-4 * 0.5**0.9, 1e-3 * 0.5**0.9])


def test_a_factor_of_zero_freezes_the_backbone(tiny_model, batch):
    module = module_of(tiny_model, backbone_lr_factor=0)
    before = {name: tensor.clone() for name, tensor in tiny_model.backbone.state_dict().items()}
    trainer = train(module, [batch] * 2, steps=2)
    after = tiny_model.backbone.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    trained = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(p) for name, p in tiny_model.named_parameters() if not name.startswith("backbone.")}


def test_cached_features_stand_in_for_pixels(tiny_model, batch):
    """A frozen backbone that is not asked gives the same loss as one that is."""
    tiny_model.eval()  # no stochastic depth
    module = EntityTraining(tiny_model, loss=SetLoss(points=64), optimisation=Optimisation(backbone_lr_factor=0))
    with torch.no_grad():
        features = tiny_model.backbone(batch.views.pixels.flatten(0, 1))  # [B,T,3,H,W] -> [BT,3,H,W]
    cached = TrainingBatch(batch.views, batch.targets, {stride: f.half() for stride, f in features.items()})
    cached = module.transfer_batch_to_device(cached, torch.device("cpu"), 0)
    losses = []
    for one in (batch, cached):
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no trainer to log to
            losses.append(module.training_step(one, 0).item())
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


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
    trainer = train(module, [batch], steps=1, validation=[(views, ["first", "second"])])
    assert trainer.callback_metrics["val/samples"] == 2
    assert evaluator.seen == []  # ready for the next round
