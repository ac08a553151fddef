"""A compiled backbone: the maps of the original, a bounded number of compilations, and eager where it cannot be."""

import shutil
import warnings

import pytest
import torch

from cropformer import load


def same_maps(ours: dict[int, torch.Tensor], theirs: dict[int, torch.Tensor]) -> bool:
    return all(torch.allclose(ours[stride], theirs[stride], atol=1e-4) for stride in (4, 8, 16, 32))


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")
def test_compiled_is_eager(tiny_model, photo):
    pixels = torch.randn(1, 3, 32, 64)
    compiled = tiny_model.compiled()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        maps, again = compiled.backbone(pixels), compiled.backbone(pixels)
        expected = tiny_model.backbone(pixels)
    assert same_maps(maps, expected)
    assert same_maps(again, expected)
    ours, theirs = compiled.segment(photo, crops=0), tiny_model.segment(photo, crops=0)
    assert ours.scores == pytest.approx(theirs.scores, abs=1e-4)
    assert (ours.id_map() == theirs.id_map()).mean() > 0.999


def test_a_few_sizes_are_compiled_and_the_rest_is_eager(tiny_model, monkeypatch):
    calls = []

    def counted(function, *, dynamic):
        assert dynamic is False
        return lambda pixels: calls.append(tuple(pixels.shape[2:])) or function(pixels)

    monkeypatch.setattr(torch, "compile", counted)
    backbone = tiny_model.compiled(max_sizes=2).backbone
    with torch.inference_mode():
        for size_hw in ((32, 32), (32, 64), (64, 64), (32, 32)):
            pixels = torch.randn(1, 3, *size_hw)
            assert same_maps(backbone(pixels), tiny_model.backbone(pixels))
    assert set(calls) == {(32, 32), (32, 64)}


def test_without_a_compiler_there_is_one_warning(tiny_model, monkeypatch):
    def missing(pixels):
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr(torch, "compile", lambda function, *, dynamic: missing)
    backbone = tiny_model.compiled().backbone
    said = "could not be compiled and runs as it is: no C"
    with torch.inference_mode(), pytest.warns(UserWarning, match=said) as caught:
        for size_hw in ((32, 32), (32, 32), (32, 64)):
            pixels = torch.randn(1, 3, *size_hw)
            assert same_maps(backbone(pixels), tiny_model.backbone(pixels))
    assert len(caught) == 1


def test_with_gradients_the_original_answers(tiny_model):
    backbone = tiny_model.compiled().backbone
    assert backbone(torch.randn(1, 3, 32, 32))[4].requires_grad


def test_saved_weights_are_those_of_the_plain_model(tiny_model, tmp_path):
    tiny_model.compiled().save_pretrained(tmp_path / "model")
    assert load(tmp_path / "model").state_dict().keys() == tiny_model.state_dict().keys()
