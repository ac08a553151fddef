"""Queries, views and dense probabilities for the tests of heads."""

import numpy as np
import torch

from benchmarks.dense_pipeline import mean_probs
from cropformer import Entities, Queries, Views, make_views
from cropformer.views import batch_views
from entitytransfer.classes import Classes

SIDES = {"short_side": 64, "max_side": 107}
COUNT = 12
CLASSES = Classes(("cat", "dog", "sky", "sea"), (3, 5, 8, 13), (True, True, False, False))


def photo_views(*sizes_hw: tuple[int, int], crops: int) -> Views:
    pictures = [np.zeros((*size_hw, 3), dtype=np.uint8) for size_hw in sizes_hw]
    return batch_views([make_views(picture, crops=crops, **SIDES) for picture in pictures])


def random_queries(views: Views, *, classes: int = len(CLASSES), seed: int = 0) -> Queries:
    """Each query has a plane of features of its own; every third one is sure of its class, one of "no object"."""
    generator = torch.Generator().manual_seed(seed)
    batch, number, _, height, width = views.pixels.shape
    blobs = torch.randn(batch * number, COUNT, 4, 5, generator=generator) - 0.5
    planes = torch.nn.functional.interpolate(blobs, size=(height // 4, width // 4), mode="bicubic")
    logits = torch.randn(batch, COUNT, classes + 1, generator=generator)
    logits[:, ::3] *= 6
    logits[:, 1, -1] += 9
    states = torch.randn(batch, COUNT, 7, generator=generator)
    embeddings = 4 * torch.eye(COUNT).expand(batch, -1, -1)
    return Queries(states, logits, embeddings, planes.unflatten(0, (batch, number)))


def dense(queries: Queries, views: Views, image: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Class probabilities [Q,K+1] and mask probabilities [Q,H,W] of one image."""
    features = queries.mask_features[image].double()
    logits = torch.einsum("qc,tchw->qthw", queries.mask_embeddings[image].double(), features)
    probs = mean_probs(logits, views, image, list(range(len(views.frames))), official=False)
    return queries.class_logits[image].double().softmax(-1).numpy(), probs.numpy()


def label_map(entities: Entities) -> np.ndarray:
    """Label + 1 of each pixel, 0 where there is none."""
    return np.concatenate([[0], entities.labels + 1])[entities.id_map()]
