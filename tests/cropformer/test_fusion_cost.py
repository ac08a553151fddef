"""What fusion may take: a bounded memory that changes no result, and no wait for a GPU between queries."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from cropformer import InputError, fuse, fusion

from .fusion_cases import COMPATS, LargestTensor, photo_views, random_queries


@COMPATS
@pytest.mark.parametrize("overlap", [False, True])
def test_no_bound_on_the_memory_changes_a_bit(compat, overlap):
    views = photo_views((300, 420))
    queries = random_queries(views, count=40)
    results = [
        fuse(queries, views, compat=compat, overlap=overlap, max_memory=bound)[0]
        for bound in (1, 3 * 10**6, 10**9, None)
    ]
    for other in results[1:]:
        assert other.rles == results[0].rles
        assert np.array_equal(other.scores, results[0].scores)
    assert len(results[0]) > 10


def test_a_smaller_bound_takes_less_memory():
    views = photo_views((700, 700), crops=0)
    queries = random_queries(views)
    peaks = []
    for bound in (10**5, 10**7):
        with LargestTensor() as largest:
            fuse(queries, views, max_memory=bound)
        peaks.append(largest.floats)
    assert peaks[0] < peaks[1] / 4


def test_a_bound_of_nothing_is_refused():
    views = photo_views((40, 60))
    with pytest.raises(InputError, match="max_memory is 0 bytes; give a positive number"):
        fuse(random_queries(views), views, max_memory=0)


class HostReads(TorchDispatchMode):
    """Counts the operations that would make a GPU's host wait for a value."""

    WAITING = ("_local_scalar_dense", "nonzero", "equal", "_to_copy", "masked_select", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if any(name in str(function) for name in self.WAITING):
            self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("min_score", [0.0, 0.3])
@COMPATS
def test_nothing_is_read_back_while_a_query_claims(monkeypatch, compat, min_score):
    reads, claim = HostReads(), fusion._claim

    def watched(*args, **kwargs):
        with reads:
            return claim(*args, **kwargs)

    monkeypatch.setattr(fusion, "_claim", watched)
    views = photo_views((90, 131))
    assert len(fuse(random_queries(views), views, compat=compat, min_score=min_score)[0]) > 2
    assert reads.seen == []


@pytest.mark.gpu
@COMPATS
def test_a_gpu_finds_the_same(compat):
    views = photo_views((300, 420))
    queries = random_queries(views, count=40)
    moved = replace(
        queries,
        **{
            name: getattr(queries, name).cuda()
            for name in ("embeddings", "class_logits", "mask_embeddings", "mask_features")
        },
    )
    ours, theirs = fuse(moved, views, compat=compat)[0], fuse(queries, views, compat=compat)[0]
    assert ours.scores == pytest.approx(theirs.scores, abs=1e-5)
    assert (ours.id_map() == theirs.id_map()).mean() > 0.9999


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
    assert 2 * pixels <= largest.size <= 3 * pixels  # the id map, 16 bits each, with whole tiles at the edges
    assert numpy_peak < 3 * pixels  # of the runs
