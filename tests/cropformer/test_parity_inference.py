"""Every saved intermediate of the published model, reproduced: backbone to id map."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import cropformer
from cropformer.queries import Queries

DATA = Path(__file__).parents[1] / "data" / "parity"
HEADS = 8


@pytest.fixture(scope="module", params=["swin", "r50", "hornet"])
def case(request):
    kind = request.param
    model = cropformer.load(DATA / f"{kind}_tiny_state.safetensors")
    saved = dict(np.load(DATA / f"{kind}_tiny_inference.npz"))
    views = cropformer.make_views(saved["image_rgb_u8"], crops=4, short_side=128, max_side=213)
    with torch.inference_mode():
        features = model.backbone(views.pixels[0])
        pixel = model.pixel_decoder(features)
        queries = model.decode(pixel, views=5)
    return model, saved, views, features, pixel, queries


def assert_near(ours, saved, tolerance):
    assert tuple(ours.shape) == saved.shape
    assert np.abs(np.asarray(ours) - saved).max() <= tolerance


def test_views(case):
    _, saved, views, *_ = case
    assert views.boxes_xyxy[0, 1:].tolist() == saved["crop_region"].tolist()
    assert views.sizes_hw[0].tolist() == [[128, 179], *[[128, 178]] * 4]
    assert views.pixels[0].shape == tuple(saved["net_input_shape"])
    assert_near(views.pixels[0, 3], saved["net_input_view3"], 1e-5)


def test_backbone(case):
    _, saved, _, features, *_ = case
    for level, stride in enumerate((4, 8, 16, 32), start=2):
        assert_near(features[stride][3], saved[f"backbone_res{level}_view3"], 1e-4)


def test_pixel_decoder(case):
    _, saved, _, _, pixel, _ = case
    assert_near(pixel.mask_features[3], saved["pd_mask_features_view3"], 1e-4)
    assert_near(pixel.levels[0], saved["pd_ms0"], 1e-4)
    assert_near(pixel.levels[1], saved["pd_ms1"], 1e-4)
    assert_near(pixel.levels[2][3], saved["pd_ms2_view3"], 1e-4)


def prediction_sets(queries: Queries) -> list[Queries]:
    return [*queries.intermediate, queries]


def test_class_logits_of_every_prediction_set(case):
    *_, saved, _, _, _, queries = case
    for i, (single, fused) in enumerate(zip(prediction_sets(queries.per_view), prediction_sets(queries))):
        assert_near(single.class_logits, saved[f"2d_layer{i}_logits"], 1e-4)
        assert_near(fused.class_logits, saved[f"3d_layer{i}_logits"], 1e-4)
    assert i == 3


def test_association(case):
    *_, saved, _, _, _, queries = case
    assert_near(queries.per_view.embeddings, saved["make3d_input_output2d"].transpose(1, 0, 2), 1e-4)
    assert_near(queries.intermediate[0].embeddings[0], saved["make3d_output"][:, 0], 1e-4)


def test_masks(case):
    *_, saved, _, _, _, queries = case
    assert_near(queries.per_view.mask_logits()[3, :, 0], saved["masks_2d_view3"], 1e-3)
    assert_near(queries.mask_logits(), saved["masks_3d"], 1e-3)


def test_official_result(case):
    _, saved, views, *_, queries = case
    entities = cropformer.fuse(queries, views, compat="official")[0]
    assert_near(entities.scores, saved["result_scores"], 1e-5)
    ids = entities.id_map().astype(int) - 1
    assert (ids == saved["result_mask_id"]).mean() >= 0.9999
    assert np.abs(entities.areas() - saved["result_areas"]).max() <= 4
    assert (entities.labels == saved["result_classes"]).all()


def test_segment_equals_its_parts(case):
    model, saved, *_ = case
    arguments = {"crops": 4, "short_side": 128, "max_side": 213, "compat": "official"}
    entities = model.segment(saved["image_rgb_u8"], **arguments)
    assert_near(entities.scores, saved["result_scores"], 1e-5)


def test_image_decoder_source(case):
    """Source I-O reads the image-level queries of the full view, as a model with crops=0 does."""
    model, saved, views, *_, queries = case
    alone = replace(
        views,
        pixels=views.pixels[:, :1],
        boxes_xyxy=views.boxes_xyxy[:, :1],
        sizes_hw=views.sizes_hw[:, :1],
        frames=(0,),
    )
    with torch.inference_mode():
        expected = cropformer.fuse(model(alone), alone)[0]
    ours = cropformer.fuse(queries, views, source="I-O")[0]
    assert (ours.id_map() == expected.id_map()).mean() > 0.999
