"""The convert command: it says what became of every tensor, writes exactly that, and can refuse anything less."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

import cropformer
from cropformer import with_association, zoo
from cropformer.checkpoint import save_official
from entitytransfer.cli import main
from entitytransfer.convert import convert

PUBLISHED = Path(__file__).parents[1] / "data" / "parity" / "r50_tiny_state.safetensors"


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on the standard error stream."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def save(model: cropformer.EntitySegmenter, path: Path) -> Path:
    cropformer.save_checkpoint(path, model.state_dict(), architecture=model.architecture, settings=model.settings)
    return path


@pytest.fixture
def coco_mask2former(tiny_architecture, tmp_path) -> Path:
    """A Mask2Former with 80 classes in the official layout, and a tensor that nobody knows."""
    architecture = replace(with_association(tiny_architecture, "none"), num_classes=80, num_queries=7)
    path = tmp_path / "coco.pth"
    save_official(path, cropformer.build(architecture).state_dict(), architecture=architecture)
    state = torch.load(path)["model"]
    torch.save({"model": state | {"extra.weight": torch.ones(1)}}, path)
    return path


@pytest.fixture
def tiny_in_the_zoo(tiny_architecture, monkeypatch) -> None:
    """A zoo with one more model, small enough for tests."""

    def tiny(*, num_queries: int = 10, num_classes: int = 1) -> cropformer.Architecture:
        return replace(tiny_architecture, num_queries=num_queries, num_classes=num_classes)

    monkeypatch.setitem(zoo.ARCHITECTURES, "tiny", tiny)


@pytest.mark.parametrize("options", [[], ["--half"], ["--model", "tiny"]])
@pytest.mark.usefixtures("tiny_in_the_zoo")
def test_classes_stay_with_the_weights(options, tiny_model, tmp_path):
    tiny_model.classes = {"names": ["cat"], "category_ids": [17], "is_thing": [True]}
    source, described = (
        tmp_path / "source.safetensors",
        {"settings": tiny_model.settings, "classes": tiny_model.classes},
    )
    cropformer.save_checkpoint(source, tiny_model.state_dict(), architecture=tiny_model.architecture, **described)
    assert main(["convert", str(source), str(tmp_path / "copy.safetensors"), *options]) == 0
    assert cropformer.load(tmp_path / "copy.safetensors").classes == tiny_model.classes


def test_published_weights_become_ours(tmp_path, capsys):
    pickled = tmp_path / "published.pth"
    torch.save({"model": load_file(PUBLISHED)}, pickled)
    assert main(["convert", str(pickled), str(tmp_path / "ours.safetensors"), "--strict"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("official CropFormer or Mask2Former: 403 tensors loaded, 0 resized, 0 re-initialised, ")
    assert lines[-2] == "CropFormer on resnet, 20 queries, 1 classes, 1.0 M parameters"
    assert lines[-1] == f"{tmp_path / 'ours.safetensors'}: 4.0 MB"
    ours, published = (cropformer.load(path).state_dict() for path in (tmp_path / "ours.safetensors", PUBLISHED))
    assert ours.keys() == published.keys()
    assert all(torch.equal(ours[name], published[name]) for name in ours)


def test_there_and_back(tmp_path):
    convert(PUBLISHED, tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "back.pth", strict=True)
    published, back = load_file(PUBLISHED), torch.load(tmp_path / "back.pth")["model"]
    assert back.keys() == published.keys()
    assert all(torch.equal(back[name], tensor.float()) for name, tensor in published.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_half_precision(suffix, tiny_model, tmp_path):
    source = save(tiny_model, tmp_path / "tiny.safetensors")
    for half in (False, True):
        convert(source, tmp_path / f"{half}{suffix}", half=half)
    sizes = [(tmp_path / f"{half}{suffix}").stat().st_size for half in (True, False)]
    assert sizes[0] < 0.7 * sizes[1]
    state = cropformer.load(tmp_path / f"True{suffix}").state_dict()
    assert all(torch.equal(state[name], tensor.half().float()) for name, tensor in tiny_model.state_dict().items())


def test_a_source_by_name(tmp_path):
    assert "CropFormer on timm, 100 queries" in convert("nano", tmp_path / "nano.safetensors", half=True)
    assert cropformer.load(tmp_path / "nano.safetensors").settings == cropformer.load("nano").settings


# --- another model than the one in the file


@pytest.mark.usefixtures("tiny_in_the_zoo")
def test_a_mask2former_becomes_the_start_of_a_cropformer(coco_mask2former, tmp_path):
    text = convert(coco_mask2former, tmp_path / "start.safetensors", model="tiny")
    assert "  re-initialised association (18 tensors, 10,752 values): not in the file" in text
    assert "  re-initialised query_decoder.class_head.bias [2]: 81 outputs in the file, 2 in the model" in text
    assert "  ignored criterion.empty_weight" in text
    assert "  unexpected extra.weight" in text
    assert "CropFormer on swin, 7 queries, 1 classes, 0.4 M parameters" in text
    start, source = cropformer.load(tmp_path / "start.safetensors"), torch.load(coco_mask2former)["model"]
    assert torch.equal(start.query_decoder.query_features.weight, source["sem_seg_head.predictor.query_feat.weight"])
    assert start.settings.crops == 4


@pytest.mark.usefixtures("tiny_in_the_zoo")
def test_what_starts_fresh_is_always_the_same(coco_mask2former, tmp_path):
    for name in "ab":
        torch.rand(1)
        before = torch.get_rng_state()
        convert(coco_mask2former, tmp_path / f"{name}.safetensors", model="tiny")
        assert torch.equal(torch.get_rng_state(), before)
    a, b = (load_file(tmp_path / f"{name}.safetensors") for name in "ab")
    assert all(torch.equal(b[name], tensor) for name, tensor in a.items())


def test_a_lone_backbone_becomes_a_model(tiny_architecture, tmp_path):
    backbone = cropformer.build(tiny_architecture).backbone
    torch.save(backbone.state_dict(), tmp_path / "swin.pth")
    text = convert(tmp_path / "swin.pth", tmp_path / "model.safetensors")
    assert "re-initialised query_decoder (" in text
    assert "CropFormer on swin, 100 queries" in text
    loaded = cropformer.load(tmp_path / "model.safetensors").backbone.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in backbone.state_dict().items())


def test_a_backbone_of_timm_needs_the_name_of_its_model(tmp_path, capsys):
    torch.save(timm.create_model("tiny_vit_5m_224").state_dict(), tmp_path / "vit.pth")
    arguments = ["convert", str(tmp_path / "vit.pth"), str(tmp_path / "model.safetensors")]
    assert main(arguments) == 2
    assert (
        "does not tell which model its backbone belongs to; name it with `entitytransfer convert --model`"
        in sentence(capsys)
    )
    assert main([*arguments, "--model", "nano"]) == 0
    assert "re-initialised pixel_decoder (" in capsys.readouterr().out


# --- refusals: exit code 2, one sentence, nothing written


@pytest.mark.usefixtures("tiny_in_the_zoo")
@pytest.mark.parametrize("choices", [[], ["--model", "tiny"]], ids=["unexpected", "fresh"])
def test_strict(coco_mask2former, choices, tmp_path, capsys):
    arguments = ["convert", str(coco_mask2former), str(tmp_path / "ours.safetensors"), *choices]
    assert main([*arguments, "--strict"]) == 2
    fresh = 20 if choices else 0
    assert f"coco.pth is not exactly this model: {fresh} tensors are re-initialised, 0 resized and 1" in sentence(
        capsys
    )
    assert list(tmp_path.iterdir()) == [coco_mask2former]
    assert main(arguments) == 0


@pytest.mark.parametrize(
    ("source", "destination", "choices", "words"),
    [
        ("gone.pth", "a.safetensors", [], "gone.pth"),
        ("photo.png", "a.safetensors", [], "photo.png"),
        ("photo.png", "a.bin", [], "must end in .safetensors"),
        ("weights/tiny.safetensors", "a.safetensors", ["--model", "huge"], "there is no model 'huge'"),
        ("weights/tiny.safetensors", "a.safetensors", ["--model", "r50"], "tiny.safetensors holds another model"),
        ("weights/tiny.safetensors", "absent/a.safetensors", [], "Cannot write"),
    ],
)
def test_refusals(photo_file, tiny_weights, source, destination, choices, words, capsys):
    folder = photo_file.parent
    assert main(["convert", str(folder / source), str(folder / destination), *choices]) == 2
    assert words in sentence(capsys)
    assert not (folder / destination).exists()


def test_the_official_layout_refuses_what_it_cannot_say(tmp_path, capsys):
    assert main(["convert", "nano", str(tmp_path / "nano.pth")]) == 2
    assert "no place for a timm backbone" in sentence(capsys)
    assert list(tmp_path.iterdir()) == []
