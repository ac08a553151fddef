"""The paper's alternatives, each run forward and through a training step: associations, crops, scales."""

import random
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

import cropformer
from cropformer import (
    Architecture,
    EntitySegmenter,
    InputError,
    Queries,
    SetLoss,
    TrainingBatch,
    TrainingCrop,
    training_views,
)
from cropformer.architecture import infer_architecture
from cropformer.association import with_association
from cropformer.multi_scale import segment_multi_scale
from cropformer.training_views import draw_training_crop
from cropformer.views import batch_views

ASSOCIATIONS = [
    ("none", None),
    ("cross", None),
    ("cross+self", None),
    ("cross+feedforward", None),
    ("cross+self+feedforward", None),
    ("learned", None),
    ("object_tokens", None),
    ("object_tokens", 0),
    ("object_tokens", 2),
]


def tiny(architecture: Architecture, settings: cropformer.TestSettings) -> EntitySegmenter:
    torch.manual_seed(0)
    return cropformer.build(architecture, settings=settings).eval()


@pytest.fixture(params=ASSOCIATIONS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def alternative(request, tiny_architecture, tiny_settings) -> EntitySegmenter:
    """The tiny model with one of the associations."""
    kind, batch_layers = request.param
    settings = replace(tiny_settings, crops=0 if kind == "none" else 4)
    return tiny(with_association(tiny_architecture, kind, batch_layers=batch_layers), settings)


def batch_of(photo: np.ndarray, crop: TrainingCrop) -> TrainingBatch:
    """One image with the left and the right half as its entities."""
    left = torch.arange(photo.shape[1]).expand(photo.shape[:2]) < photo.shape[1] // 2
    views, target = training_views(photo, torch.stack((left, ~left)).numpy(), crop)
    return TrainingBatch(batch_views([views]), [target.padded(tuple(views.pixels.shape[-2:]))])


def trained_step(model: EntitySegmenter, batch: TrainingBatch) -> dict[str, torch.Tensor]:
    """One step's gradients by parameter name; those without one are left out."""
    torch.manual_seed(0)
    losses = cropformer.cropformer_losses(model.train()(batch.views), batch.targets, loss=SetLoss(points=64))
    torch.stack(list(losses.values())).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(ours: cropformer.Entities, theirs: cropformer.Entities) -> None:
    assert len(ours) == len(theirs) > 1
    assert ours.query_ids.tolist() == theirs.query_ids.tolist()
    assert ours.scores == pytest.approx(theirs.scores, abs=1e-5)
    assert (ours.id_map() == theirs.id_map()).mean() > 0.9999


# --- associations


def test_every_association_segments(alternative, photo):
    entities = alternative.segment(photo)
    assert entities.size_hw == photo.shape[:2]
    assert len(entities) > 0


def test_every_association_learns(alternative, photo):
    places = ((1.0, 0.0),) if alternative.association else ()
    gradients = trained_step(alternative, batch_of(photo, TrainingCrop(32, 64, flip=False, places=places)))
    assert set(gradients) == {name for name, _ in alternative.named_parameters()}  # nothing is left out
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert all(gradient.any() for name, gradient in gradients.items() if name.startswith("association."))


def test_every_prediction_set_is_supervised(alternative, photo):
    """Image-level queries always; batch-level ones after each layer that they go through."""
    places = ((1.0, 0.0),) if alternative.association else ()
    batch = batch_of(photo, TrainingCrop(32, 64, flip=False, places=places))
    losses = cropformer.cropformer_losses(alternative(batch.views), batch.targets, loss=SetLoss(points=64))
    layers = alternative.architecture.decoder_layers
    depth = layers if alternative.batch_layers is None else alternative.batch_layers
    assert sum(name.startswith("view/") for name in losses) == 3 * (layers + 1)
    assert sum(name.startswith("fused/") for name in losses) == (3 * (depth + 1) if alternative.association else 0)


def test_every_association_survives_saving(alternative, photo, tmp_path):
    cropformer.save_checkpoint(
        tmp_path / "weights.safetensors",
        alternative.state_dict(),
        architecture=alternative.architecture,
        settings=alternative.settings,
    )
    again = cropformer.load(tmp_path / "weights.safetensors")
    assert again.architecture.association == alternative.architecture.association
    assert again.batch_layers == alternative.batch_layers
    assert np.array_equal(again.segment(photo).id_map(), alternative.segment(photo).id_map())


def test_shapes_tell_the_association(alternative):
    shapes = {name: tuple(tensor.shape) for name, tensor in alternative.state_dict().items()}
    inferred, known = infer_architecture(shapes, "weights"), alternative.architecture
    for name in ("association", "association_feedforward", "association_layers"):
        assert getattr(inferred, name) == getattr(known, name)


def test_associations_differ(tiny_architecture, tiny_settings, photo):
    kinds = [(kind, layers) for kind, layers in ASSOCIATIONS if kind != "none"]
    models = [tiny(with_association(tiny_architecture, k, batch_layers=n), tiny_settings) for k, n in kinds]
    assert len({model.segment(photo).embeddings.tobytes() for model in models}) == len(kinds)


def test_the_published_association_is_the_default(tiny_architecture):
    assert with_association(tiny_architecture, "cross+self+feedforward") == tiny_architecture


@pytest.mark.parametrize(
    ("kind", "batch_layers", "message"),
    [
        ("crossed", None, "no association 'crossed'; choose from none, cross,"),
        ("learned", 0, "learned queries see an image in the decoder layers only"),
        ("object_tokens", 4, "batch_layers is 4, but the query decoder has 3 layers; use 0 to 3"),
        ("cross", -1, "batch_layers is -1"),
    ],
)
def test_associations_that_do_not_exist(kind, batch_layers, message, tiny_architecture):
    with pytest.raises(InputError, match=message):
        cropformer.build(with_association(tiny_architecture, kind, batch_layers=batch_layers))


# --- crops


@pytest.mark.parametrize("crop_type", ["random", "fixed4", "fixed8"])
@pytest.mark.parametrize("ratio", [0.5, 0.8])
def test_every_crop_type_learns(tiny_model, photo, crop_type, ratio):
    numbers = {"short_sides": (32,), "max_side": 64, "crops": 2, "crop_type": crop_type, "ratio": ratio}
    batch = batch_of(photo, draw_training_crop(**numbers, generator=random.Random(1)))
    assert batch.views.pixels.shape[:2] == (1, 3)
    gradients = trained_step(tiny_model, batch)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("source", ["B-OC", "B-O", "B-C", "I-O"])
@pytest.mark.parametrize("crops", [4, 8])
def test_every_source_with_every_fixed_layout(tiny_model, photo, source, crops):
    entities = tiny_model.segment(photo, crops=crops, source=source, crop_ratio=0.8)
    assert entities.size_hw == photo.shape[:2]
    assert len(entities) > 1


# --- one view at any size, and several


@pytest.mark.parametrize(("short_side", "max_side"), [(64, 107), (83, 139), (224, 373)])
def test_a_plain_mask2former_at_any_size(tiny_architecture, tiny_settings, photo, short_side, max_side):
    plain = tiny(with_association(tiny_architecture, "none"), replace(tiny_settings, crops=0))
    entities = plain.segment(photo, short_side=short_side, max_side=max_side)
    assert entities.size_hw == photo.shape[:2]


@pytest.mark.parametrize("size", [(64, 107), (70, 101)])
@pytest.mark.parametrize("overlap", [False, True])
def test_equal_scales_are_one_scale(tiny_model, photo, size, overlap):
    alone = tiny_model.segment(photo, crops=0, short_side=size[0], max_side=size[1], overlap=overlap)
    for count in (1, 2, 3):
        assert_same(segment_multi_scale(tiny_model, photo, sizes=[size] * count, overlap=overlap), alone)


def test_scales_are_matched_whatever_the_order_of_their_queries(tiny_model, photo, monkeypatch):
    sizes = ((64, 107), (96, 160))
    expected = segment_multi_scale(tiny_model, photo, sizes=sizes)
    forward, order = tiny_model.forward, torch.randperm(10, generator=torch.Generator().manual_seed(1))

    def shuffled(views):
        queries = forward(views)
        if views.pixels.shape[-2] == 64:
            return queries
        return replace(
            queries,
            embeddings=queries.embeddings[:, order],
            class_logits=queries.class_logits[:, order],
            mask_embeddings=queries.mask_embeddings[:, order],
        )

    monkeypatch.setattr(tiny_model, "forward", shuffled)
    assert_same(segment_multi_scale(tiny_model, photo, sizes=sizes), expected)


def test_scales_are_averaged(tiny_model, photo, monkeypatch):
    """One entity everywhere, on a smaller and on a larger canvas under another number; the other query is nothing."""
    logits = {64: ((2.0, 1.0), 1.5), 96: ((0.5, 3.0), -0.4)}  # class logits and mask logit of the entity

    def forward(views):
        (entity, nothing), mask = logits[views.pixels.shape[-2]]
        order = [0, 1] if views.pixels.shape[-2] == 64 else [1, 0]
        height, width = (side // 4 for side in views.pixels.shape[-2:])
        planes = torch.tensor([mask, -5.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, height, width)
        classes = torch.tensor([[[entity, nothing], [-9.0, 9.0]]])
        return Queries(torch.zeros(1, 2, 3), classes[:, order], torch.eye(2)[None, order], planes)

    monkeypatch.setattr(tiny_model, "forward", forward)
    entities = segment_multi_scale(tiny_model, photo, sizes=((64, 107), (96, 160)), min_score=0.1)
    class_score = (1 / (1 + np.exp(-1)) + 1 / (1 + np.exp(2.5))) / 2
    mask_score = (1 / (1 + np.exp(-1.5)) + 1 / (1 + np.exp(0.4))) / 2
    assert entities.scores == pytest.approx([class_score * mask_score], abs=1e-6)
    assert entities.query_ids.tolist() == [0]
    assert (entities.id_map() == 1).all()  # though the larger scale alone says no


def test_the_order_of_the_scales_does_not_matter(tiny_model, photo):
    small, large = (64, 107), (96, 160)
    first, second = (segment_multi_scale(tiny_model, photo, sizes=s) for s in ((small, large), (large, small)))
    assert first.scores == pytest.approx(second.scores, abs=1e-5)
    assert (first.id_map() == second.id_map()).mean() > 0.999
    assert not np.array_equal(first.id_map(), tiny_model.segment(photo, crops=0).id_map())


def test_scales_respect_the_threshold(tiny_model, photo):
    sizes = ((64, 107), (96, 160))
    scores = segment_multi_scale(tiny_model, photo, sizes=sizes).scores
    threshold = float(np.median(scores))
    assert 0 < len(segment_multi_scale(tiny_model, photo, sizes=sizes, min_score=threshold)) < len(scores)


def test_no_scale_is_refused(tiny_model, photo):
    with pytest.raises(InputError, match="at least one"):
        segment_multi_scale(tiny_model, photo, sizes=())


def test_architectures_are_plain_numbers(tiny_architecture):
    changed = with_association(tiny_architecture, "object_tokens", batch_layers=0)
    assert Architecture(**asdict(changed)) == changed
    assert (changed.association_layers, changed.association_feedforward, changed.batch_layers) == (3, 32, 0)
