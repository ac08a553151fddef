"""The published training step, reproduced: views, targets, matching, every loss and the gradients."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import StochasticDepth

import cropformer
from cropformer import Cut, Target, Views, cut_masks
from cropformer.joint_targets import JointTargets
from cropformer.layouts import official
from cropformer.losses import SetLoss, cropformer_losses
from cropformer.matcher import match
from cropformer.resampling import resized_size_hw
from cropformer.training_views import TrainingCrop, training_views
from cropformer.views import batch_views, crop_places

DATA = Path(__file__).parents[1] / "data" / "parity"


def unpack(saved: dict, name: str, shape_name: str) -> np.ndarray:
    shape = tuple(saved[shape_name])
    return np.unpackbits(saved[name], axis=-1, count=shape[-1]).astype(bool)


class Replay:
    """Hands out the recorded random points; those of one shape in the recorded order.

    The published step matches a set and takes its losses before it looks at the next set, ours matches all sets first.
    """

    def __init__(self, saved: dict) -> None:
        names = sorted(name for name in saved if name.startswith("pts"))
        self.points = [torch.from_numpy(saved[name].astype(np.float32) / 65536) for name in names]

    def __call__(self, count: int, points: int) -> torch.Tensor:
        place = next(i for i, drawn in enumerate(self.points) if tuple(drawn.shape) == (count, points, 2))
        return self.points.pop(place)


@pytest.fixture(scope="module", params=["swin", "r50"])
def case(request):
    kind = request.param
    saved = dict(np.load(DATA / f"{kind}_tiny_train.npz"))
    meta = json.loads((DATA / f"{kind}_tiny_train_meta.json").read_text())
    views, targets = zip(*(make_item(saved, image) for image in (0, 1)))
    return kind, saved, meta, batch_views(views), list(targets)


def make_item(saved: dict, image: int) -> tuple[Views, Target]:
    masks = unpack(saved, f"in{image}_masks_u8", f"in{image}_masks_shape")
    crop = TrainingCrop(
        short_side=int(saved[f"map{image}_short_side"]),
        max_side=213,
        flip=bool(saved[f"map{image}_flip"]),
        places=(crop_places(4)[int(saved[f"map{image}_crop_index"][0])],),
    )
    return training_views(saved[f"in{image}_image_rgb_u8"], masks, crop)


@pytest.mark.parametrize("image", [0, 1])
def test_views_and_masks(case, image):
    _, saved, _, views, targets = case
    assert views.boxes_xyxy[image, 1].tolist() == saved[f"map{image}_crop_region"][0].tolist()
    for t, name in ((0, "full"), (1, "crop")):
        masks = unpack(saved, f"map{image}_{name}_masks", f"map{image}_{name}_masks_shape")
        height, width = masks.shape[1:]
        assert views.sizes_hw[image, t].tolist() == [height, width]
        assert (targets[image].masks[:, t, :height, :width].numpy() == masks).all()
        assert (targets[image].valid[:, t].numpy() == saved[f"map{image}_{name}_valid"].astype(bool)).all()
        pixels = saved[f"map{image}_image_u8"] if t == 0 else saved[f"map{image}_crop_u8"][0]
        mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
        normalised = (pixels - mean[:, None, None]) / std[:, None, None]
        assert np.abs(views.pixels[image, t, :, :height, :width].numpy() - normalised).max() < 1e-5


def test_targets(case):
    _, saved, _, _, targets = case
    singles = [view for target in targets for view in target.per_view()]
    for i, single in enumerate(singles):
        expected = unpack(saved, f"tgt2d_{i}_masks", f"tgt2d_{i}_shape")
        height, width = single.masks.shape[-2:]
        assert (single.labels.numpy() == saved[f"tgt2d_{i}_labels"]).all()
        assert (single.masks[:, 0].numpy() == expected[:, :height, :width]).all()
        assert not expected[:, height:].any()
        assert not expected[:, :, width:].any()
    for i, target in enumerate(targets):
        expected = unpack(saved, f"tgt3d_{i}_masks", f"tgt3d_{i}_shape")
        height, width = target.masks.shape[-2:]
        assert (target.masks.numpy() == expected[..., :height, :width]).all()
        assert (target.valid.numpy() == (saved[f"tgt3d_{i}_ids"] >= 0)).all()


@dataclass(frozen=True)
class Recording(SetLoss):
    """Matches by itself, notes the pairs, then goes on with the recorded ones.

    Entities that no sampled point touches cost exactly the same, so rounding alone decides which of their queries
    is whose; ``test_matching`` compares the assignments by their cost.
    """

    expected: list = field(default_factory=list)
    noted: list = field(default_factory=list)

    def match(self, sets, truth, *, draw):
        ours, surplus = super().match(sets, truth, draw=draw)
        for queries, entities in zip(ours.queries, ours.entities):
            parts = (pairs.split(ours.counts) for pairs in (queries, entities))
            self.noted.extend((rows.numpy(), columns.numpy()) for rows, columns in zip(*parts))
        first, images = len(self.noted) - len(sets) * len(ours.counts), len(ours.counts)
        recorded = [
            np.concatenate(self.expected[i : i + images], axis=1) for i in range(first, len(self.noted), images)
        ]
        queries, entities = torch.from_numpy(np.stack(recorded)).unbind(1)  # [S,2,M]
        return replace(ours, queries=queries, entities=entities), surplus


@pytest.fixture(scope="module")
def step(case):
    kind, saved, meta, views, targets = case
    model = cropformer.load(DATA / f"{kind}_tiny_state.safetensors").train()
    for module in model.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.0  # as the fixture was made
    queries = model(views)
    replay = Replay(saved)
    loss = Recording(points=128, draw=replay, expected=recorded_pairs(saved, meta))
    canvas_hw = tuple(views.pixels.shape[-2:])
    losses = cropformer_losses(queries, [target.padded(canvas_hw) for target in targets], loss=loss)
    assert not replay.points
    sum(losses.values()).backward()
    return model, queries, losses, loss.noted


def recorded_pairs(saved: dict, meta: dict) -> list:
    names = [f"match{i:03d}_{level}" for i, level in enumerate(meta["match_order"])]
    return [(saved[f"{name}_rows"], saved[f"{name}_cols"]) for name in names]


def test_outputs(case, step):
    saved, queries = case[1], step[1]
    with torch.no_grad():
        assert np.abs(queries.per_view.class_logits.numpy() - saved["train_logits_2d"]).max() < 1e-4
        assert np.abs(queries.class_logits.numpy() - saved["train_logits_3d"]).max() < 1e-4
        assert np.abs(queries.per_view.mask_logits()[0, :, 0].numpy() - saved["train_masks_2d_item0"]).max() < 1e-3
        assert np.abs(queries.mask_logits()[1].numpy() - saved["train_masks_3d_item1"]).max() < 1e-3


def test_every_loss(case, step):
    saved, losses = case[1], step[2]
    assert len(losses) == 24
    for name, value in losses.items():
        assert value.item() == pytest.approx(saved[f"loss__{official_loss(name)}"].item(), rel=1e-4), name
    assert sum(losses.values()).item() == pytest.approx(saved["loss_total"].item(), rel=1e-5)


def official_loss(name: str) -> str:
    level, term = name.split("/")
    term = term.replace("class", "ce")
    return f"loss_{term}_{'2d' if level == 'view' else '3d'}"


def test_matching(case, step):
    """Our pairs are those of the published matcher, up to entities whose costs are equal."""
    _, saved, meta, *_ = case
    noted = step[3]
    assert len(noted) == len(meta["match_order"])
    for i, (level, ours, theirs) in enumerate(zip(meta["match_order"], noted, recorded_pairs(saved, meta))):
        cost = saved[f"match{i:03d}_{level}_cost"]
        assert (ours[0] == theirs[0]).all()
        assert cost[ours].sum() == pytest.approx(cost[theirs].sum(), abs=1e-4)
        differing = ours[1] != theirs[1]
        assert np.abs(cost[ours] - cost[theirs])[differing].max(initial=0) < 1e-4


def test_matching_costs(case, step):
    """The cost matrices of the final image-level set, from the recorded points."""
    _, saved, _, views, targets = case
    singles = [view.padded(tuple(views.pixels.shape[-2:])) for target in targets for view in target.per_view()]
    loss, truth = SetLoss(points=128), JointTargets.join(singles)
    costs, surplus = loss.costs([step[1].per_view], truth, draw=Replay(saved))
    assert surplus.all()
    for i, count in enumerate(truth.counts):
        assert np.abs(costs[0, i, :, :count].numpy() - saved[f"match{i:03d}_2d_cost"]).max() < 1e-3
        rows, columns = match(torch.from_numpy(saved[f"match{i:03d}_2d_cost"]))
        assert rows.tolist() == saved[f"match{i:03d}_2d_rows"].tolist()
        assert columns.tolist() == saved[f"match{i:03d}_2d_cols"].tolist()


def test_gradients(case, step):
    _, saved, meta, *_ = case
    ours = dict(step[0].named_parameters())
    for name, norm in meta["grad_norms"].items():
        assert ours[official.NAMES.to_ours(name)].grad.norm().item() == pytest.approx(norm, rel=2e-3, abs=1e-4), name
    for name in (key for key in saved if key.startswith("grad__")):
        expected = saved[name]
        difference = np.abs(ours[official.NAMES.to_ours(name[6:])].grad.numpy() - expected).max()
        assert difference <= 2e-3 * np.abs(expected).max(), name
    total = torch.stack([p.grad.norm() for p in ours.values() if p.grad is not None]).norm().item()
    assert total == pytest.approx(meta["total_norm"], rel=1e-3)


def test_sizes_round_as_published():
    assert resized_size_hw((160, 224), short_side=128, max_side=213) == (128, 179)
    assert resized_size_hw((112, 156), short_side=128, max_side=213) == (128, 178)


def test_nearest_masks_pick_pillows_pixels():
    from PIL import Image

    rng = np.random.default_rng(0)
    for _ in range(20):
        height, width, new_height, new_width = rng.integers(3, 90, 4)
        mask = rng.random((1, height, width)) > 0.5
        image = Image.fromarray(mask[0].astype(np.uint8)).resize((new_width, new_height), Image.Resampling.NEAREST)
        cut = Cut((0, 0, width, height), (new_height, new_width))
        assert (cut_masks(mask, cut)[0] == np.asarray(image).astype(bool)).all()
