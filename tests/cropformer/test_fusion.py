"""View fusion equals a slow and plain reference that holds every mask of every query at image size."""

import tracemalloc
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cropformer import Entities, Queries, Views, fuse, make_clip_views, make_views
from cropformer.views import batch_views

CLASSES = 3
SIDES = {"short_side": 64, "max_side": 107}


# --- the reference: the published steps after the network, in float64 and with all masks at once


@dataclass
class Dense:
    """Results in the order of the output."""

    ids: np.ndarray  # [H,W], 0 = none, i + 1 = entity i
    queries: list[int]
    scores: list[float]


def dense_fuse(queries: Queries, views: Views, image: int, members: list[int], **choices) -> Dense:
    """Fuse the views ``members`` of one image; ``choices`` as in ``fuse``."""
    official, source = choices.get("compat") == "official", choices.get("source", "B-OC")
    row, planes = image, members
    if source == "I-O":
        queries, row, planes = queries.per_view, image * len(views.frames) + members[0], [0]
    shown = {"B-OC": members, "B-O": members[:1], "B-C": members[1:], "I-O": members[:1]}[source]
    planes = planes if source == "I-O" else shown
    logits = torch.einsum("qc,tchw->qthw", queries.mask_embeddings[row].double(), queries.mask_features[row].double())
    height, width = views.image_sizes_hw[image].tolist()
    total, count = torch.zeros(len(logits), height, width).double(), torch.zeros(height, width).double()
    for plane, t in zip(planes, shown):
        x0, y0, x1, y1 = views.boxes_xyxy[image, t].tolist()
        place = two_step if official else one_step
        at_image = place(
            logits[:, plane], views.pixels.shape[-2:], views.sizes_hw[image, t].tolist(), (y1 - y0, x1 - x0)
        )
        total[:, y0:y1, x0:x1] += at_image.sigmoid()
        count[y0:y1, x0:x1] += 1
    probs = total / (count + 1e-16)
    class_scores = queries.class_logits[row].softmax(-1)[:, :-1].amax(-1)
    return paint(probs, class_scores, official=official, min_score=choices.get("min_score", 0.0))


def two_step(masks, padded_hw, valid_hw, target_hw):
    """To the padded network input, off with the padding, to the pixels of the view."""
    masks = F.interpolate(masks[None], size=tuple(padded_hw), mode="bilinear", align_corners=False)
    masks = masks[..., : valid_hw[0], : valid_hw[1]]
    return F.interpolate(masks, size=target_hw, mode="bilinear", align_corners=False)[0]


def one_step(masks, padded_hw, valid_hw, target_hw):
    """Each image pixel reads the stride-4 logits once, where its centre falls."""
    y, x = (
        2 * (torch.arange(target).double() + 0.5) / target * (valid / padded) - 1
        for target, valid, padded in zip(target_hw, valid_hw, padded_hw)
    )
    grid = torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), dim=-1)
    return F.grid_sample(masks[None], grid[None], padding_mode="border", align_corners=False)[0]


def paint(probs, class_scores, *, official: bool, min_score: float) -> Dense:
    """Best class score first; a pixel belongs to the first query whose mask holds it."""
    ids = np.zeros(probs.shape[1:], dtype=int)
    order, kept, scores = class_scores.argsort(descending=True).tolist(), [], []
    for query in order:
        visible = (probs[query] > 0.5).numpy() & (ids == 0)
        inside = probs[query].numpy()[visible]
        if official:
            quality = (1 / (1 + np.exp(-inside))).sum() / (len(inside) + 1e-6)
        else:
            quality = inside.mean() if len(inside) else 0.0
        score = class_scores[query].item() * quality
        if official or (len(inside) and score >= min_score):
            kept.append(query)
            scores.append(score)
            ids[visible] = len(kept)
    if official:
        return Dense(ids, kept, scores)
    ranks = np.argsort(-np.array(scores), kind="stable")
    renumbered = np.zeros(len(kept) + 1, dtype=int)
    renumbered[ranks + 1] = np.arange(1, len(kept) + 1)
    return Dense(renumbered[ids], [kept[i] for i in ranks], [scores[i] for i in ranks])


# --- random queries with compact, overlapping masks on which the views do not quite agree


def random_queries(views: Views, *, count: int = 14, seed: int = 0) -> Queries:
    """Query 0 has no pixel anywhere; query 1 covers everything."""
    generator = torch.Generator().manual_seed(seed)
    batch, number, _, height, width = views.pixels.shape

    def level(batch: int, views: int) -> Queries:
        blobs = torch.randn(batch * views, count, 4, 5, generator=generator)
        planes = F.interpolate(blobs, size=(height // 4, width // 4), mode="bicubic") - 0.7
        planes[:, 0], planes[:, 1] = -1.0, 0.6
        embeddings = 6 * torch.eye(count) + 0.2 * torch.randn(batch, count, count, generator=generator)
        embeddings[:, :2] = 6 * torch.eye(count)[:2]
        states = torch.randn(batch, count, 7, generator=generator)
        logits = torch.randn(batch, count, CLASSES + 1, generator=generator)
        logits[:, 1, -1] += 4  # else the one that covers everything hides everyone
        return Queries(states, logits, embeddings, planes.unflatten(0, (batch, views)))

    return replace(level(batch, number), per_view=level(batch * number, 1))


def picture(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), dtype=np.uint8)


def photo_views(*sizes_hw, crops=4) -> Views:
    return batch_views([make_views(picture(*size), crops=crops, **SIDES) for size in sizes_hw])


def assert_same(ours: Entities, dense: Dense) -> None:
    ids = ours.id_map()
    assert ids.shape == dense.ids.shape
    assert (ids == dense.ids).mean() >= 0.99999
    assert ours.scores == pytest.approx(dense.scores, abs=1e-6)
    assert ours.query_ids.tolist() == dense.queries
    assert len(np.unique(ids)) > 3  # the case is worth comparing


COMPATS = pytest.mark.parametrize("compat", [None, "official"])
SOURCES = pytest.mark.parametrize("source", ["B-OC", "B-O", "B-C", "I-O"])


@COMPATS
@SOURCES
@pytest.mark.parametrize("size_hw", [(90, 131), (131, 90), (40, 60), (7, 5)])
def test_photo_with_crops(compat, source, size_hw):
    views = photo_views(size_hw)
    queries = random_queries(views)
    ours = fuse(queries, views, compat=compat, source=source)
    assert len(ours) == 1
    assert_same(ours[0], dense_fuse(queries, views, 0, [0, 1, 2, 3, 4], compat=compat, source=source))


@COMPATS
@pytest.mark.parametrize("crops", [0, 8, (1, 3)])
def test_other_layouts(compat, crops):
    views = photo_views((90, 131), crops=crops)
    queries = random_queries(views)
    members = list(range(len(views.frames)))
    assert_same(fuse(queries, views, compat=compat)[0], dense_fuse(queries, views, 0, members, compat=compat))


@COMPATS
@SOURCES
def test_batch_of_two_sizes(compat, source):
    views = photo_views((90, 131), (60, 150))
    queries = random_queries(views)
    ours = fuse(queries, views, compat=compat, source=source)
    for image in (0, 1):
        dense = dense_fuse(queries, views, image, [0, 1, 2, 3, 4], compat=compat, source=source)
        assert_same(ours[image], dense)


@COMPATS
@pytest.mark.parametrize("source", ["B-OC", "I-O"])
def test_clip(compat, source):
    views = make_clip_views([picture(90, 131)] * 3, **SIDES)
    queries = random_queries(views)
    ours = fuse(queries, views, compat=compat, source=source)
    assert len(ours) == 3
    for frame in range(3):
        assert_same(ours[frame], dense_fuse(queries, views, 0, [frame], compat=compat, source=source))


@SOURCES
def test_clip_with_crops(source):
    """Two frames of five views each: every frame is fused from its own views."""
    pair = [make_views(picture(90, 131), crops=4, **SIDES)] * 2
    joined = (torch.cat([getattr(v, name) for v in pair], dim=1) for name in ("pixels", "boxes_xyxy", "sizes_hw"))
    views = Views(*joined, pair[0].image_sizes_hw, (0,) * 5 + (1,) * 5)
    queries = random_queries(views)
    ours = fuse(queries, views, source=source)
    assert_same(ours[0], dense_fuse(queries, views, 0, [0, 1, 2, 3, 4], source=source))
    assert_same(ours[1], dense_fuse(queries, views, 0, [5, 6, 7, 8, 9], source=source))


@pytest.mark.parametrize("min_score", [0.2, 0.35])
def test_entities_below_the_threshold_claim_nothing(min_score):
    views = photo_views((90, 131))
    queries = random_queries(views)
    ours = fuse(queries, views, min_score=min_score)[0]
    everything = fuse(queries, views)[0]
    assert 0 < len(ours) < len(everything)
    assert ours.scores.min() >= min_score
    assert_same(ours, dense_fuse(queries, views, 0, [0, 1, 2, 3, 4], min_score=min_score))


def test_a_threshold_is_the_same_as_never_having_asked_the_weak():
    views = photo_views((90, 131))
    queries = random_queries(views)
    ours = fuse(queries, views, min_score=0.4)[0]
    strong = torch.from_numpy(np.sort(ours.query_ids))
    only_strong = replace(
        queries,
        embeddings=queries.embeddings[:, strong],
        class_logits=queries.class_logits[:, strong],
        mask_embeddings=queries.mask_embeddings[:, strong],
    )
    alone = fuse(only_strong, views)[0]
    assert np.array_equal(alone.id_map(), ours.id_map())
    assert alone.scores.tolist() == ours.scores.tolist()


def test_nobody_reaches_a_threshold_above_one():
    views = photo_views((40, 60))
    entities = fuse(random_queries(views), views, min_score=1.1)[0]
    assert len(entities) == 0
    assert not entities.id_map().any()


def test_what_an_entity_carries():
    """Label, embedding and query of each entity belong together, and the best score comes first."""
    views = photo_views((90, 131))
    queries = random_queries(views)
    entities = fuse(queries, views)[0]
    assert (np.diff(entities.scores) <= 0).all()
    assert 0 not in entities.query_ids  # it has no pixel
    assert entities.labels.tolist() == queries.labels()[0, entities.query_ids].tolist()
    assert np.array_equal(entities.embeddings, queries.embeddings[0, entities.query_ids].numpy())
    assert len(set(entities.labels.tolist())) > 1


def test_the_published_pipeline_exports_every_query():
    views = photo_views((90, 131))
    queries = random_queries(views)
    entities = fuse(queries, views, compat="official")[0]
    class_scores = queries.class_scores()[0, entities.query_ids].numpy()
    assert len(entities) == 14
    assert (np.diff(class_scores) <= 0).all()
    hidden = entities.areas() == 0
    assert hidden[entities.query_ids == 0].all()
    assert not entities.scores[hidden].any()
    ratio = entities.scores[~hidden] / class_scores[~hidden]
    assert ratio.min() > 0.622  # the sigmoid of a probability above one half
    assert ratio.max() < 0.732


def test_more_padding_changes_nothing():
    """A larger canvas whose extra logits repeat the edge gives the same entities."""
    views = photo_views((64, 96), crops=0)
    queries = random_queries(views)
    features = F.pad(queries.mask_features[0], (0, 8, 0, 16), mode="replicate")[None]
    larger = replace(views, pixels=F.pad(views.pixels, (0, 32, 0, 64)))
    ours = fuse(replace(queries, mask_features=features), larger)[0]
    expected = fuse(queries, views)[0]
    assert np.array_equal(ours.id_map(), expected.id_map())
    assert ours.scores == pytest.approx(expected.scores, abs=1e-6)


@COMPATS
def test_a_mask_in_the_padding_alone_is_no_entity(compat):
    views = photo_views((64, 70), crops=0)
    queries = random_queries(views)
    height, width = queries.mask_features.shape[-2:]
    assert (4 * height, 4 * width) == (64, 96)
    features = torch.full_like(queries.mask_features, -1.0)
    features[..., 20:] = 5.0  # the view ends in column 17.5
    entities = fuse(replace(queries, mask_features=features), views, compat=compat)[0]
    assert not entities.id_map().any()
    assert not entities.areas().any()


def test_queries_that_need_gradients_are_welcome():
    views = photo_views((40, 60))
    queries = random_queries(views)
    trained = replace(queries, mask_embeddings=queries.mask_embeddings.clone().requires_grad_())
    assert np.array_equal(fuse(trained, views)[0].id_map(), fuse(queries, views)[0].id_map())


def test_overlapping_entities_keep_all_their_pixels():
    views = photo_views((60, 90))
    queries = random_queries(views)
    apart, whole = fuse(queries, views)[0], fuse(queries, views, overlap=True)[0]
    areas = dict(zip(whole.query_ids.tolist(), whole.areas().tolist()))
    assert len(whole) >= len(apart)
    assert all(areas[query] >= area for query, area in zip(apart.query_ids.tolist(), apart.areas().tolist()))
    best = int(queries.class_scores()[0].argmax())
    masks = {int(query): mask for query, mask in zip(whole.query_ids, whole.masks())}
    kept = {int(query): mask for query, mask in zip(apart.query_ids, apart.masks())}
    assert np.array_equal(masks[best], kept[best])
    assert whole.areas().sum() > apart.areas().sum()


class LargestTensor(TorchDispatchMode):
    """Notes the size in bytes of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.size = max(self.size, tensor.untyped_storage().nbytes())
        return result


@COMPATS
def test_memory_grows_with_the_image_and_not_with_the_queries(compat):
    """100 queries at 1500x2000: as bool alone [Q,H,W] would take 300 MB; one float32 plane takes 12."""
    pixels = 1500 * 2000
    views = photo_views((1500, 2000))
    queries = random_queries(views, count=100)
    tracemalloc.start()
    with LargestTensor() as largest:
        entities = fuse(queries, views, compat=compat)[0]
    numpy_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(entities) > 20
    assert 4 * pixels <= largest.size <= 8 * pixels
    assert numpy_peak < 100 * pixels / 3
