"""Fixtures that several tests share: a tiny CropFormer with random weights, and a picture for it."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cropformer
from cropformer.architecture import SwinNumbers


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests leave nothing in the user's cache, and find nothing there."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENTITYTRANSFER_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_architecture() -> cropformer.Architecture:
    """A complete model of a tenth of a million parameters."""
    backbone = SwinNumbers(16, depths=(1, 1, 2, 1), heads=(2, 4, 8, 8), window=4, drop_path=0.1)
    return cropformer.Architecture(
        "swin",
        asdict(backbone),
        channels=32,
        num_queries=10,
        encoder_layers=1,
        encoder_feedforward=32,
        decoder_layers=3,
        decoder_feedforward=32,
        association_feedforward=32,
    )


@pytest.fixture(scope="session")
def tiny_settings() -> cropformer.TestSettings:
    """Test settings at which the tiny model needs milliseconds; every entity is shown."""
    return cropformer.TestSettings(short_side=64, max_side=107, crops=4, min_score=0.0)


@pytest.fixture
def tiny_model(tiny_architecture, tiny_settings) -> cropformer.EntitySegmenter:
    """A fresh tiny model in evaluation mode; always the same weights, spread so that its queries differ."""
    torch.manual_seed(0)
    model = cropformer.build(tiny_architecture, settings=tiny_settings).eval()
    with torch.no_grad():
        model.query_decoder.class_head.weight.mul_(20)
        model.query_decoder.mask_head.layers[-1].weight.mul_(20)
        model.pixel_decoder.mask_projection.weight.mul_(3)
    return model


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A smooth colourful picture, uint8 RGB [90,131,3]."""
    noise = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((131, 90), Image.Resampling.BICUBIC))
