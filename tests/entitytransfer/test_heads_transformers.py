"""An independent judge of heads: the post-processing of ``transformers``, which resizes masks to 384x384."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cropformer import make_views
from entitytransfer.heads import InstanceHead, PanopticHead, SemanticHead

from .head_cases import CLASSES, COUNT, dense, label_map, random_queries


@pytest.fixture(scope="module")
def judged() -> SimpleNamespace:
    """Queries and views of 384x384, the outputs as ``transformers`` wants them, and its processor."""
    transformers = pytest.importorskip("transformers")
    picture = np.zeros((384, 384, 3), dtype=np.uint8)
    views = make_views(picture, crops=0, short_side=384, max_side=384)
    queries = random_queries(views, seed=2)
    queries.class_logits[:, ::2] *= 40  # sure, with probabilities of one
    outputs = SimpleNamespace(
        class_queries_logits=queries.class_logits, masks_queries_logits=queries.mask_logits()[:, :, 0]
    )
    return SimpleNamespace(
        queries=queries, views=views, outputs=outputs, processor=transformers.Mask2FormerImageProcessor()
    )


def test_semantic_as_transformers(judged):
    found = SemanticHead(CLASSES).predict(judged.queries, judged.views)[0]
    theirs = judged.processor.post_process_semantic_segmentation(judged.outputs)[0]
    assert (label_map(found) - 1 == theirs.numpy()).mean() > 0.9999


def test_instances_as_transformers(judged):
    """They keep as many pairs as there are queries."""
    found = InstanceHead(CLASSES, top_k=COUNT).predict(judged.queries, judged.views)[0]
    theirs = judged.processor.post_process_instance_segmentation(judged.outputs, threshold=0, return_binary_maps=True)
    order = sorted(range(len(found)), key=lambda i: -theirs[0]["segments_info"][i]["score"])
    assert len(theirs[0]["segments_info"]) == len(found) > 5
    for mask, score, label, i in zip(found.masks(), found.scores, found.labels, order):
        info = theirs[0]["segments_info"][i]
        assert (info["score"], info["label_id"]) == (pytest.approx(score, abs=1e-5), label)
        assert (theirs[0]["segmentation"][i].numpy() == mask).mean() > 0.9999


def test_panoptic_regions_as_transformers(judged):
    """They keep won pixels below one half too, and measure areas on products, the same where a score is one.

    Stuff is not merged here: after merging, their numbers of later regions collide with earlier ones.
    """
    things = replace(CLASSES, is_thing=(True,) * 4)
    found = PanopticHead(things, min_score=0.99).predict(judged.queries, judged.views)[0]
    theirs = judged.processor.post_process_panoptic_segmentation(
        judged.outputs, threshold=0.99, label_ids_to_fuse=set()
    )[0]
    assert len(found) == len(theirs["segments_info"]) > 1
    _, probs = dense(judged.queries, judged.views)
    infos = sorted(zip(sorted(found.query_ids), theirs["segments_info"]), key=lambda pair: pair[0])
    for query, info in infos:  # both in the order of queries
        ours = int(np.flatnonzero(found.query_ids == query)[0])
        expected = (theirs["segmentation"].numpy() == info["id"]) & (probs[query] >= 0.5)
        assert (found.masks()[ours] == expected).mean() > 0.9999
        assert (found.labels[ours], found.scores[ours]) == (info["label_id"], pytest.approx(info["score"], abs=1e-5))
