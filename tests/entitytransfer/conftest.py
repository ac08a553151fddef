"""Fixtures of several tests: weights on disk that need milliseconds, a photo file, a clip file, trees of datasets."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import torch
from PIL import Image

import cropformer
from entitytransfer.jobs.options import SegmentOptions
from entitytransfer.writers.video import VideoWriter

from .clip_trees import VIPSEG_SIZE_HW, make_vipseg_tree


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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class TreeCase(Protocol):
    """A case of a test of many datasets."""

    name: str
    make: Callable[[Path], Path]


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> Callable[[TreeCase], Path]:
    """The tree of a case, made once for all that are alike."""
    made: dict[Callable, Path] = {}

    def tree(case: TreeCase) -> Path:
        if case.make not in made:
            made[case.make] = case.make(tmp_path_factory.mktemp(case.name))
        return made[case.make]

    return tree


@pytest.fixture
def vipseg_tree(tmp_path: Path) -> Path:
    """The folder of a small VIPSeg."""
    return make_vipseg_tree(tmp_path, size_hw=VIPSEG_SIZE_HW)


@pytest.fixture
def vipseg_home(vipseg_tree: Path) -> Path:
    """The small VIPSeg as it is downloaded."""
    return vipseg_tree / "VIPSeg"
