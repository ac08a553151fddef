"""Queries and views for the tests of fusion, and the comparison with the dense reference in double precision."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.dense_pipeline import DenseResult, dense_fuse
from cropformer import Entities, Queries, Views, make_views
from cropformer.views import batch_views

CLASSES = 3
SIDES = {"short_side": 64, "max_side": 107}
COMPATS = pytest.mark.parametrize("compat", [None, "official"])


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


def dense(queries: Queries, views: Views, image: int, members: list[int], *, compat=None, **choices) -> DenseResult:
    official = compat == "official"
    return dense_fuse(queries, views, image=image, members=members, official=official, dtype=torch.float64, **choices)


def assert_same(ours: Entities, reference: DenseResult) -> None:
    assert ours.scores == pytest.approx(reference.scores, abs=1e-6)
    assert ours.query_ids.tolist() == reference.query_ids
    if reference.masks is not None:
        assert (ours.masks() == reference.masks.numpy()).mean() >= 0.99999
        return
    ids = ours.id_map()
    assert ids.shape == reference.ids.shape
    assert (ids == reference.ids.numpy()).mean() >= 0.99999
    assert len(np.unique(ids)) > 3  # the case is worth comparing


class LargestTensor(TorchDispatchMode):
    """Notes the size in bytes of the largest tensor that any operation makes, and of the largest of floats."""

    def __init__(self) -> None:
        super().__init__()
        self.size = self.floats = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                size = tensor.untyped_storage().nbytes()
                self.size = max(self.size, size)
                self.floats = max(self.floats, size * tensor.is_floating_point())
        return result
