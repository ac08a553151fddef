"""Matching and losses: values worked out by hand, and the targets that real batches are made of."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cropformer import Queries, SetLoss, Target, cropformer_losses
from cropformer.losses import Normalisers, entity_counts
from cropformer.mask_losses import cross_entropy_loss, dice_loss
from cropformer.matcher import CostWeights, match, match_sets, matching_cost


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# --- the terms


def test_cross_entropy_is_a_mean_over_points_and_a_sum_over_masks():
    logits = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    targets = torch.tensor([[1.0, 0.0], [0.5, 0.0]])
    expected = (softplus(-2) + softplus(-1)) / 2 + (math.log(2) + softplus(3)) / 2
    assert cross_entropy_loss(logits, targets).item() == pytest.approx(expected)


def test_dice_is_smoothed_by_one():
    logits = torch.tensor([[0.0, 0.0], [50.0, -50.0], [-50.0, -50.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    expected = (1 - (2 * 0.5 + 1) / (1 + 1 + 1)) + 0 + 0
    assert dice_loss(logits, targets).item() == pytest.approx(expected)


def test_matching_cost_by_hand():
    class_logits = torch.tensor([[0.0, math.log(3)]])  # probability 1/4 of the class, 3/4 of no object
    point_logits, point_targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    cost = matching_cost(class_logits, point_logits, torch.tensor([0, 0]), point_targets, weights=CostWeights(2, 3, 7))
    area = sigmoid(2) + sigmoid(-1)
    full = -2 / 4 + 3 * (softplus(-2) + softplus(1)) / 2 + 7 * (1 - (2 * area + 1) / (area + 2 + 1))
    empty = -2 / 4 + 3 * (softplus(2) + softplus(-1)) / 2 + 7 * (1 - 1 / (area + 1))
    assert cost[0].tolist() == pytest.approx([full, empty], rel=1e-5)


def test_a_class_costs_what_its_own_probability_says():
    class_logits = torch.tensor([[math.log(1), math.log(2), math.log(7)]])
    cost = matching_cost(
        class_logits, torch.zeros(1, 1), torch.tensor([1, 0]), torch.zeros(2, 1), weights=CostWeights(1, 0, 0)
    )
    assert cost[0].tolist() == pytest.approx([-0.2, -0.1])


def test_matching_takes_the_cheapest_assignment_as_a_whole():
    queries, entities = match(torch.tensor([[1.0, 2.0], [1.5, 9.0], [8.0, 8.0]]))
    assert queries.tolist() == [0, 1]
    assert entities.tolist() == [1, 0]  # giving query 0 its own favourite would cost 1 + 8


def test_entities_without_a_query_stay_unmatched():
    queries, entities = match(torch.tensor([[3.0, 1.0, 2.0]]))
    assert (queries.tolist(), entities.tolist()) == ([0], [1])
    assert [len(part) for part in match(torch.zeros(4, 0))] == [0, 0]


# --- one image, three queries: left half, right half, left half again

WIDTH = 8
LEFT = torch.arange(WIDTH) < WIDTH // 2
FIRST, SECOND, THIRD = 2.0, 1.0, 0.5  # logits of the class against 0 for no object


def halves(*, views: int = 1) -> Queries:
    """Three queries whose masks are the left, the right and the left half with logits of 3."""
    plane = torch.where(LEFT, 1.0, -1.0).expand(1, views, 1, WIDTH, WIDTH)
    class_logits = torch.tensor([[[FIRST, 0.0], [SECOND, 0.0], [THIRD, 0.0]]])
    return Queries(torch.zeros(1, 3, 1), class_logits, torch.tensor([[[3.0], [-3.0], [3.0]]]), plane)


def target_of(*masks: torch.Tensor, views: int = 1, exhaustive: bool = True) -> Target:
    """Entities that look the same in every view."""
    stacked = torch.stack(masks) if masks else torch.zeros(0, WIDTH, WIDTH, dtype=torch.bool)
    count = len(masks)
    stacked = stacked[:, None].expand(count, views, WIDTH, WIDTH)
    return Target(torch.zeros(count, dtype=torch.long), stacked, torch.ones(count, views, dtype=torch.bool), exhaustive)


LEFT_MASK = LEFT.expand(WIDTH, WIDTH)


def centres(count: int, points: int) -> torch.Tensor:
    """Points on pixel centres, where logits and masks are exactly what was put there; whole rows in turn."""
    index = torch.arange(points) % WIDTH**2
    x, y = index % WIDTH, index // WIDTH
    return (torch.stack((x, y), dim=-1) + 0.5).div(WIDTH).expand(count, points, 2)


LOSS = SetLoss(points=WIDTH**2, importance=0.0, draw=centres)


def test_all_terms_by_hand():
    losses = LOSS(halves(), [target_of(LEFT_MASK)])
    classes = (softplus(-FIRST) + 0.1 * (softplus(SECOND) + softplus(THIRD))) / 1.2
    assert losses["class"].item() == pytest.approx(2 * classes, rel=1e-5)
    assert losses["mask"].item() == pytest.approx(5 * softplus(-3), rel=1e-4)
    inside, area = 32 * sigmoid(3), 32 * (sigmoid(3) + sigmoid(-3))
    assert losses["dice"].item() == pytest.approx(5 * (1 - (2 * inside + 1) / (area + 32 + 1)), rel=1e-4)
    assert set(losses) == {"class", "mask", "dice"}


def test_every_earlier_set_is_matched_and_judged_by_itself():
    earlier = replace(halves(), class_logits=torch.tensor([[[0.0, 0.0], [0.0, 0.0], [9.0, 0.0]]]))
    losses = LOSS(replace(halves(), intermediate=(earlier, halves())), [target_of(LEFT_MASK)])
    assert set(losses) == {f"{term}{i}" for term in ("class", "mask", "dice") for i in ("", "_0", "_1")}
    assert losses["class_1"] == losses["class"]
    third_matched = (softplus(-9) + 0.1 * 2 * math.log(2)) / 1.2
    assert losses["class_0"].item() == pytest.approx(2 * third_matched, rel=1e-5)


def test_queries_on_unannotated_ground_are_not_called_surplus():
    """The right half may hold an entity that nobody drew; the third query repeats the one on the left."""
    losses = LOSS(halves(), [target_of(LEFT_MASK, exhaustive=False)])
    classes = (softplus(-FIRST) + 0.1 * softplus(THIRD)) / 1.1
    assert losses["class"].item() == pytest.approx(2 * classes, rel=1e-5)


def test_exhaustive_and_other_images_share_a_batch():
    both = Queries(*(torch.cat([t, t]) for t in (halves().embeddings, halves().class_logits)), *two(halves()))
    losses = LOSS(both, [target_of(LEFT_MASK), target_of(LEFT_MASK, exhaustive=False)])
    surplus = softplus(SECOND) + 2 * softplus(THIRD)
    assert losses["class"].item() == pytest.approx(2 * (2 * softplus(-FIRST) + 0.1 * surplus) / 2.3, rel=1e-5)
    assert losses["mask"].item() == pytest.approx(5 * softplus(-3), rel=1e-4)  # two masks, two entities


def two(queries: Queries) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.cat([tensor, tensor]) for tensor in (queries.mask_embeddings, queries.mask_features))


def test_no_entity_at_all():
    losses = LOSS(halves(), [target_of()])
    surplus = (softplus(FIRST) + softplus(SECOND) + softplus(THIRD)) / 3
    assert losses["class"].item() == pytest.approx(2 * surplus, rel=1e-5)
    assert losses["mask"].item() == losses["dice"].item() == 0


def test_nothing_is_known():
    losses = LOSS(halves(), [target_of(exhaustive=False)])
    assert [value.item() for value in losses.values()] == [0, 0, 0]


def test_more_entities_than_queries():
    """Five entities, three queries: three pairs, and the sum is still shared by five."""
    masks = [LEFT_MASK, ~LEFT_MASK, LEFT_MASK, LEFT_MASK.T, ~LEFT_MASK.T]
    losses = LOSS(halves(), [target_of(*masks)])
    matched = (softplus(-FIRST) + softplus(-SECOND) + softplus(-THIRD)) / 3
    assert losses["class"].item() == pytest.approx(2 * matched, rel=1e-5)
    assert losses["mask"].item() == pytest.approx(5 * 3 * softplus(-3) / 5, rel=1e-4)


def test_masks_of_several_views_add_up():
    """The batch level counts every view of a pair, also one that does not show the entity."""
    target = target_of(LEFT_MASK, views=2)
    absent = Target(target.labels, target.masks.clone(), torch.tensor([[True, False]]))
    absent.masks[0, 1] = False
    queries = halves(views=2)
    assert LOSS(queries, [target])["mask"].item() == pytest.approx(5 * 2 * softplus(-3), rel=1e-4)
    wrong_half = 5 * (softplus(-3) + (softplus(3) + softplus(-3)) / 2)
    assert LOSS(queries, [absent])["mask"].item() == pytest.approx(wrong_half, rel=1e-4)


def test_image_level_losses_count_half():
    views = 2
    per_view = halves()
    per_view = Queries(*(torch.cat([t, t]) for t in (per_view.embeddings, per_view.class_logits)), *two(per_view))
    queries = replace(halves(views=views), per_view=per_view)
    losses = cropformer_losses(queries, [target_of(LEFT_MASK, views=views)], loss=LOSS)
    assert set(losses) == {f"{level}/{term}" for level in ("view", "fused") for term in ("class", "mask", "dice")}
    assert losses["view/class"].item() == pytest.approx(losses["fused/class"].item() / 2)
    # Two views and two entities against two views of one entity.
    assert losses["view/mask"].item() == pytest.approx(losses["fused/mask"].item() / 4, rel=1e-4)


def test_a_single_view_counts_in_full():
    losses = cropformer_losses(halves(), [target_of(LEFT_MASK)], loss=LOSS)
    alone = LOSS(halves(), [target_of(LEFT_MASK)])
    assert {name: value.item() for name, value in losses.items()} == {f"view/{k}": v.item() for k, v in alone.items()}


def test_normalisers_of_a_whole_step_take_the_place_of_those_of_the_batch():
    per_view = Queries(*(torch.cat([t, t]) for t in (halves().embeddings, halves().class_logits)), *two(halves()))
    queries, targets = replace(halves(views=2), per_view=per_view), [target_of(LEFT_MASK, views=2)]
    own = cropformer_losses(queries, targets, loss=LOSS)
    given = cropformer_losses(queries, targets, loss=LOSS, normalisers=Normalisers(view=8.0, fused=0.5))
    for name, value in own.items():
        level, term = name.split("/")
        divisor = 4 if level == "view" and term != "class" else 1  # 2 by itself; less than 1 counts as 1
        assert given[name].item() == pytest.approx(value.item() / divisor)


def test_entities_are_counted_for_both_levels():
    half_seen = Target(torch.zeros(2, dtype=torch.long), torch.zeros(2, 2, 1, 1), torch.tensor([[1, 0], [1, 1]]).bool())
    assert entity_counts([half_seen, target_of(LEFT_MASK, views=2)]) == (5, 3)
    assert entity_counts([target_of()]) == (0, 0)


# --- batches


def test_a_batch_is_the_sum_of_its_images():
    """Images of none, one and more entities than queries, in two prediction sets, alone and together."""
    torch.manual_seed(0)
    queries = Queries(*(torch.randn(4, 3, n) for n in (1, 2, 5)), torch.randn(4, 2, 5, 6, 6))
    queries = replace(queries, intermediate=(replace(queries, mask_embeddings=torch.randn(4, 3, 5)),))
    masks = [torch.rand(count, 2, 24, 24) > 0.5 for count in (2, 0, 1, 5)]
    targets = [Target(torch.zeros(len(m), dtype=torch.long), m, torch.ones(len(m), 2).bool()) for m in masks]
    together = LOSS(queries, targets, normaliser=1)
    alone = [LOSS(only(queries, image), [target], normaliser=1) for image, target in enumerate(targets)]
    for name, value in together.items():
        if not name.startswith("class"):
            assert value.item() == pytest.approx(sum(losses[name].item() for losses in alone), rel=1e-5)


def only(queries: Queries, image: int) -> Queries:
    """One image of a batch."""
    names = ("embeddings", "class_logits", "mask_embeddings", "mask_features")
    parts = (getattr(queries, name)[image : image + 1] for name in names)
    return Queries(*parts, tuple(only(earlier, image) for earlier in queries.intermediate))


def test_padding_is_never_matched():
    cost = torch.full((2, 2, 3, 4), -9.0)
    cost[:, 0, :, :2] = torch.tensor([[1.0, 5.0], [5.0, 5.0], [5.0, 1.0]])
    queries, entities = match_sets(cost, counts=[2, 0])
    assert queries.tolist() == [[0, 2]] * 2
    assert entities.tolist() == [[0, 1]] * 2


def test_a_step_that_is_lost_is_matched_all_the_same():
    """The losses say what is wrong, not the matcher."""
    broken = replace(halves(), mask_embeddings=torch.full((1, 3, 1), torch.nan))
    losses = LOSS(broken, [target_of(LEFT_MASK)])
    assert losses["mask"].isnan()
    assert losses["class"].isfinite()


@pytest.mark.parametrize("counts", [(2, 3), (0, 0), (0, 4), (14, 1)], ids=str)
@pytest.mark.parametrize("exhaustive", [True, False])
def test_gradients_are_finite(counts, exhaustive, tiny_model, photo):
    """Two images with these numbers of entities, through the whole model; ten queries each."""
    from cropformer import make_views
    from cropformer.views import batch_views

    rng = np.random.default_rng(0)
    views = batch_views([make_views(photo, crops=(1, 1), short_side=32, max_side=64)] * 2)
    targets = []
    for count in counts:
        masks = torch.from_numpy(rng.random((count, 2, *views.pixels.shape[-2:])) > 0.6)
        valid = torch.from_numpy(rng.random((count, 2)) > 0.3)
        masks = masks & valid[:, :, None, None]
        targets.append(Target(torch.zeros(count, dtype=torch.long), masks, valid, exhaustive))
    torch.manual_seed(0)
    losses = cropformer_losses(tiny_model(views), targets, loss=SetLoss(points=64))
    assert all(value.isfinite() and value >= 0 for value in losses.values())
    total = sum(losses.values())
    total.backward()
    gradients = [p.grad for p in tiny_model.parameters()]
    assert all(gradient is not None for gradient in gradients)  # processes that train together wait for every one
    assert all(gradient.isfinite().all() for gradient in gradients)
    learns = sum(counts) > 0 or exhaustive
    assert any(gradient.any() for gradient in gradients) == learns
