"""The five-line interface: any kind of image in, the same entities out, alone or in a batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import cropformer
from cropformer import Entities, InputError, fuse, make_clip_views, make_views
from cropformer.images import as_rgb


def assert_equal(ours: Entities, theirs: Entities) -> None:
    assert len(ours) == len(theirs) > 1
    assert ours.query_ids.tolist() == theirs.query_ids.tolist()
    assert ours.scores == pytest.approx(theirs.scores, abs=1e-5)
    assert (ours.id_map() == theirs.id_map()).mean() > 0.9999


def picture(height: int, width: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


# --- what goes in


@pytest.mark.parametrize("kind", ["path", "text", "pil", "tensor", "strided"])
def test_every_kind_of_image(kind, tiny_model, photo, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    given = {
        "path": path,
        "text": str(path),
        "pil": Image.fromarray(photo),
        "tensor": torch.from_numpy(photo.copy()).permute(2, 0, 1),
        "strided": np.ascontiguousarray(photo[:, ::-1])[:, ::-1],
    }
    assert np.array_equal(as_rgb(given[kind]), photo)
    assert_equal(tiny_model.segment(given[kind]), tiny_model.segment(photo))


def test_a_grey_picture_is_made_rgb():
    assert np.array_equal(as_rgb(Image.new("L", (4, 3), 7)), np.full((3, 4, 3), 7, dtype=np.uint8))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 5, 3), dtype=np.float32), r"float32 \(4, 5, 3\)"),
        (np.zeros((4, 5), dtype=np.uint8), r"uint8 \(4, 5\)"),
        (np.zeros((4, 5, 4), dtype=np.uint8), r"uint8 \(4, 5, 4\)"),
        (np.zeros((0, 5, 3), dtype=np.uint8), r"uint8 \(0, 5, 3\)"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), r"uint8 \(4, 5, 3\)"),
        (torch.zeros(4, 5), r"float32 \(4, 5\)"),
    ],
    ids=["float", "grey", "transparent", "empty", "channels last", "matrix"],
)
def test_arrays_that_are_no_rgb_image(image, said, tiny_model):
    with pytest.raises(InputError, match=rf"must be uint8 RGB, .* not {said}"):
        tiny_model.segment(image)


def test_a_missing_file_is_named(tiny_model, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.jpg"):
        tiny_model.segment(tmp_path / "nowhere.jpg")


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 3), (1, 40), (40, 2), (4, 4), (5, 300)])
def test_the_smallest_images(size_hw, tiny_model):
    entities = tiny_model.segment(picture(*size_hw, seed=0))
    assert entities.size_hw == size_hw
    assert entities.id_map().shape == size_hw


# --- what comes out


def test_segment_is_views_model_fuse(tiny_model, photo):
    views = make_views(photo, crops=4, short_side=64, max_side=107)
    with torch.inference_mode():
        queries = tiny_model(views)
    assert queries.class_logits.shape == (1, 10, 2)
    assert queries.mask_logits().shape == (1, 10, 5, *(side // 4 for side in views.pixels.shape[-2:]))
    assert queries.per_view.class_logits.shape == (5, 10, 2)
    assert_equal(tiny_model.segment(photo), fuse(queries, views)[0])


def test_entities_fit_the_image(tiny_model, photo):
    entities = tiny_model.segment(photo)
    assert entities.size_hw == photo.shape[:2]
    assert (np.diff(entities.scores) <= 0).all()
    assert entities.embeddings.shape == (len(entities), 32)
    assert entities.masks().sum(0).max() == 1  # no pixel belongs to two


def test_without_crops_the_image_decoder_answers(tiny_model, photo):
    """crops=0 is T = 1: the image-level queries of the full view, with or without an association module."""
    entities = tiny_model.segment(photo, crops=0)
    tiny_model.association = None
    assert_equal(tiny_model.segment(photo, crops=0), entities)
    views = make_views(photo, crops=0, short_side=64, max_side=107)
    with torch.inference_mode():
        queries = tiny_model(views)
    assert queries.per_view is None
    assert_equal(fuse(queries, views)[0], entities)


def test_crops_change_the_answer(tiny_model, photo):
    assert not np.array_equal(tiny_model.segment(photo).id_map(), tiny_model.segment(photo, crops=0).id_map())


def test_image_level_queries_do_not_know_the_other_views(tiny_model, photo):
    views = make_views(photo, crops=4, short_side=64, max_side=107)
    first = replace(
        views,
        pixels=views.pixels[:, :1],
        boxes_xyxy=views.boxes_xyxy[:, :1],
        sizes_hw=views.sizes_hw[:, :1],
        frames=(0,),
    )
    with torch.inference_mode():
        together, alone = tiny_model(views).per_view, tiny_model(first)
    assert torch.allclose(together.embeddings[:1], alone.embeddings, atol=1e-4)
    assert torch.allclose(together.class_logits[:1], alone.class_logits, atol=1e-3)


def test_views_one_by_one_are_views_at_once(tiny_model, photo):
    """Without gradients the views are encoded one at a time; the features are the same."""
    pixels = make_views(photo, crops=4, short_side=64, max_side=107).pixels[0]
    with torch.no_grad():
        singly = tiny_model.encode(pixels)
    together = tiny_model.encode(pixels)
    assert together.mask_features.requires_grad
    assert torch.allclose(singly.mask_features, together.mask_features, atol=1e-4)
    for ours, theirs in zip(singly.levels, together.levels):
        assert torch.allclose(ours, theirs, atol=1e-4)


# --- batches and clips


@pytest.mark.parametrize("crops", [0, 4])
@pytest.mark.parametrize("sizes", [((60, 90), (60, 90)), ((60, 90), (90, 60)), ((60, 90), (40, 41), (60, 90), (1, 1))])
def test_a_batch_is_its_images(crops, sizes, tiny_model):
    """Also of several sizes: no image is padded because of another one."""
    images = [picture(*size, seed=i) for i, size in enumerate(sizes)]
    many = tiny_model.segment_batch(images, crops=crops)
    assert len(many) == len(images)
    for entities, image in zip(many, images):
        single = tiny_model.segment(image, crops=crops)
        assert entities.size_hw == image.shape[:2]
        if image.size > 3:
            assert_equal(entities, single)


def test_images_of_one_size_share_a_pass(tiny_model, monkeypatch):
    passes = []
    forward = tiny_model.forward
    monkeypatch.setattr(
        tiny_model, "forward", lambda views, **options: passes.append(len(views.pixels)) or forward(views, **options)
    )
    tiny_model.segment_batch([picture(60, 90, 0), picture(90, 60, 1), picture(60, 90, 2)])
    assert sorted(passes) == [1, 2]


def test_predict_hands_over_queries_and_views(tiny_model):
    """In groups of one size; results come back in the order of the images."""
    images, sizes = [picture(60, 90, 0), picture(90, 60, 1), picture(60, 90, 2)], []

    def look(queries, views):
        sizes.append(len(views.pixels))
        assert queries.class_logits.shape == (len(views.pixels), 10, 2)
        assert torch.is_inference_mode_enabled()
        return list(zip(views.image_sizes_hw.tolist(), fuse(queries, views)))

    found = tiny_model.predict(images, look, crops=0)
    assert sorted(sizes) == [1, 2]
    for image, (size_hw, entities) in zip(images, found):
        assert tuple(size_hw) == image.shape[:2]
        assert_equal(entities, tiny_model.segment(image, crops=0, min_score=0.0))


def test_predict_takes_the_options_of_segment(tiny_model, photo):
    chosen = {"crops": 4, "short_side": 48, "max_side": 64, "crop_ratio": 0.6}
    found = tiny_model.predict([photo], fuse, **chosen, max_memory="1GB", precision="bf16")[0]
    assert_equal(found, tiny_model.segment(photo, **chosen, precision="bf16"))
    with pytest.raises(InputError, match="there is no precision 'fp8'; use fp32 or bf16"):
        tiny_model.predict([photo], fuse, precision="fp8")


def test_predict_wants_one_result_for_each_image(tiny_model, photo):
    with pytest.raises(ValueError, match="argument"):
        tiny_model.predict([photo, photo], lambda queries, views: [0])


def test_an_empty_batch(tiny_model):
    assert tiny_model.segment_batch([]) == []


def test_a_clip_shares_its_queries(tiny_model):
    frames = [picture(60, 90, seed) for seed in (0, 1)]
    found = tiny_model.segment_clip(frames)
    views = make_clip_views(frames, short_side=64, max_side=107)
    with torch.inference_mode():
        expected = fuse(tiny_model(views), views)
    assert len(found) == 2
    for ours, theirs in zip(found, expected):
        assert_equal(ours, theirs)


def test_a_clip_of_one_frame_is_a_photo(tiny_model, photo):
    assert_equal(tiny_model.segment_clip([photo])[0], tiny_model.segment(photo, crops=0))


# --- settings


def test_arguments_override_the_settings_of_the_weights(tiny_model, photo):
    chosen = {"crops": 0, "short_side": 32, "max_side": 64, "min_score": 0.01}
    overridden = tiny_model.segment(photo, **chosen)
    assert not np.array_equal(overridden.id_map(), tiny_model.segment(photo).id_map())
    tiny_model.settings = cropformer.TestSettings(**chosen)
    assert_equal(tiny_model.segment(photo), overridden)


def test_min_score_filters(tiny_model, photo):
    scores = tiny_model.segment(photo).scores
    threshold = float(np.median(scores))
    assert 0 < len(tiny_model.segment(photo, min_score=threshold)) < len(scores)


@pytest.mark.parametrize("source", ["B-OC", "B-O", "B-C", "I-O"])
def test_the_source_reaches_fusion(source, tiny_model, photo):
    views = make_views(photo, crops=4, short_side=64, max_side=107)
    with torch.inference_mode():
        expected = fuse(tiny_model(views), views, source=source)[0]
    assert_equal(tiny_model.segment(photo, source=source), expected)


@pytest.mark.parametrize("source", ["B-OC", "B-O", "I-O"])
def test_without_crops_there_is_one_answer(source, tiny_model, photo):
    assert_equal(tiny_model.segment(photo, crops=0, source=source), tiny_model.segment(photo, crops=0))


def test_crops_alone_need_crops(tiny_model, photo):
    with pytest.raises(InputError, match="crops=0 leaves none; use crops=4 or another source"):
        tiny_model.segment(photo, crops=0, source="B-C")
    assert tiny_model.segment(photo[:3, :3], source="B-C").size_hw == (3, 3)  # too small for crops: its full view


def test_sources_are_listed(tiny_model, photo):
    with pytest.raises(InputError, match="no prediction source 'C-B'; the sources are B-OC, B-O, B-C, I-O"):
        tiny_model.segment(photo, source="C-B")


def test_the_crop_ratio_comes_with_the_weights_or_the_call(tiny_model, photo):
    views = make_views(photo, crops=4, short_side=64, max_side=107, crop_ratio=0.5)
    with torch.inference_mode():
        expected = fuse(tiny_model(views), views)[0]
    assert_equal(tiny_model.segment(photo, crop_ratio=0.5), expected)
    assert not np.array_equal(tiny_model.segment(photo).id_map(), expected.id_map())
    tiny_model.settings = replace(tiny_model.settings, crop_ratio=0.5)
    assert_equal(tiny_model.segment(photo), expected)


def test_impossible_ratios_are_refused(tiny_model, photo, tiny_architecture, tiny_settings):
    with pytest.raises(InputError, match=r"1\.5 times the side"):
        tiny_model.segment(photo, crop_ratio=1.5)
    with pytest.raises(InputError, match=r"0 times the side"):
        cropformer.build(tiny_architecture, settings=replace(tiny_settings, crop_ratio=0))


def test_the_published_pipeline_has_no_threshold(tiny_model, photo):
    tiny_model.settings = replace(tiny_model.settings, min_score=0.9)
    assert len(tiny_model.segment(photo, compat="official")) == 10


def test_a_model_without_association_says_what_to_do(tiny_model, photo):
    tiny_model.association = None
    with pytest.raises(InputError, match="without an association module takes one view per image; use crops=0"):
        tiny_model.segment(photo, crops=4)
