"""Fixtures of the commands: weights on disk that need milliseconds, a photo file and a clip file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cropformer
from entitytransfer.jobs.options import SegmentOptions
from entitytransfer.writers.video import VideoWriter


@pytest.fixture
def tiny_weights(tmp_path: Path, tiny_model: cropformer.EntitySegmenter) -> Path:
    """The tiny model as a weights file."""
    path = tmp_path / "weights" / "tiny.safetensors"
    path.parent.mkdir()
    model = tiny_model
    cropformer.save_checkpoint(path, model.state_dict(), architecture=model.architecture, settings=model.settings)
    return path


@pytest.fixture
def options(tmp_path: Path, tiny_weights: Path) -> SegmentOptions:
    """Options of the segment command for the tiny model."""
    return SegmentOptions(out_dir=tmp_path / "out", weights=str(tiny_weights), device="cpu")


@pytest.fixture
def photo_file(tmp_path: Path, photo: np.ndarray) -> Path:
    """The photo as a PNG."""
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    return path


@pytest.fixture
def clip_file(tmp_path: Path, photo: np.ndarray) -> Path:
    """Six frames of 64x48 pixels, the photo moving to the left."""
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, fps=10, size_hw=(48, 64)) as video:
        for index in range(6):
            video.write(np.ascontiguousarray(photo[20:68, 4 * index : 4 * index + 64]))
    return path
