"""A backbone run by OpenVINO: the maps of the original, its gradients, and what is said where it cannot run."""

import sys

import pytest
import torch

from cropformer import InputError

BOUNDS = {"fp32": 1e-3, "bf16": 3e-2}  # of the maps, relative


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.fixture(scope="module", params=BOUNDS)
def precision(request) -> str:
    pytest.importorskip("openvino")
    return request.param


def test_the_same_maps(precision, tiny_model):
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = tiny_model.with_openvino_backbone(precision=precision).backbone(pixels)
        theirs = tiny_model.backbone(pixels)
    assert list(ours) == list(theirs) == [4, 8, 16, 32]
    for stride in theirs:
        assert ours[stride].shape == theirs[stride].shape
        assert relative_error(ours[stride], theirs[stride]) < BOUNDS[precision]


def test_the_same_entities(tiny_model, photo):
    pytest.importorskip("openvino")
    ours, theirs = tiny_model.with_openvino_backbone().segment(photo), tiny_model.segment(photo)
    assert len(ours) == len(theirs) > 1
    assert ours.scores == pytest.approx(theirs.scores, abs=1e-4)
    assert (ours.id_map() == theirs.id_map()).mean() > 0.999


def test_a_size_is_converted_once_while_there_is_room(tiny_model, monkeypatch):
    openvino = pytest.importorskip("openvino")
    converted, convert = [], openvino.convert_model
    monkeypatch.setattr(openvino, "convert_model", lambda program: converted.append(1) or convert(program))
    backbone = tiny_model.with_openvino_backbone().backbone
    backbone.max_sizes = 1
    for width, conversions in ((32, 1), (32, 1), (64, 2), (32, 3)):
        pixels = torch.randn(1, 3, 32, width)
        with torch.inference_mode():
            ours, theirs = backbone(pixels), tiny_model.backbone(pixels)
        assert relative_error(ours[32], theirs[32]) < BOUNDS["fp32"]
        assert len(converted) == conversions


def test_the_original_model_stays_as_it_is_and_shares_its_weights(tiny_model):
    pytest.importorskip("openvino")
    original = tiny_model.backbone
    other = tiny_model.with_openvino_backbone()
    assert tiny_model.backbone is original
    assert other.query_decoder is tiny_model.query_decoder
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(other.backbone(pixels)[4], original(pixels)[4])  # with gradients the original answers
    assert other.backbone(pixels)[4].requires_grad


def test_an_unknown_precision(tiny_model):
    with pytest.raises(InputError, match="no precision 'int8'; use fp32 or bf16"):
        tiny_model.with_openvino_backbone(precision="int8")


def test_a_missing_package_is_named(tiny_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r"needs the package openvino; pip install 'cropformer\[openvino\]'"):
        tiny_model.with_openvino_backbone()
