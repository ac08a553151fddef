"""Checkpoints: our files survive a round trip, and bad ones get one sentence."""

import errno
from dataclasses import asdict, replace
from pathlib import Path

import lightning
import pytest
import torch
from safetensors.torch import load_file, save_file

import cropformer
from cropformer import InputError, TestSettings, load, load_with_report, read_checkpoint, save_checkpoint
from cropformer.checkpoint import describe
from cropformer.zoo import cropformer_r50

DATA = Path(__file__).parents[1] / "data"


def assert_equal(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert state.keys() == expected.keys()
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []


@pytest.fixture(scope="module")
def published_state() -> dict[str, torch.Tensor]:
    """A small published state dict."""
    return load_file(DATA / "parity" / "swin_tiny_state.safetensors")


# --- our files


def save(model: cropformer.EntitySegmenter, path: Path, **choices) -> None:
    save_checkpoint(path, model.state_dict(), architecture=model.architecture, settings=model.settings, **choices)


def test_round_trip(tiny_model, tmp_path):
    save(tiny_model, tmp_path / "tiny.safetensors")
    loaded = load(tmp_path / "tiny.safetensors")
    assert not loaded.training
    assert asdict(loaded.architecture.backbone_config()) == asdict(tiny_model.architecture.backbone_config())
    assert replace(loaded.architecture, backbone_numbers={}) == replace(tiny_model.architecture, backbone_numbers={})
    assert loaded.settings == tiny_model.settings
    assert_equal(loaded.state_dict(), tiny_model.state_dict())


def test_half_precision_files_are_half_as_large_and_load_as_float(tiny_model, tmp_path):
    save(tiny_model, tmp_path / "float.safetensors")
    save(tiny_model, tmp_path / "half.safetensors", dtype=torch.float16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "float")]
    assert sizes[0] < 0.65 * sizes[1]
    loaded = load(tmp_path / "half.safetensors").state_dict()
    for name, tensor in tiny_model.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor.half().to(tensor.dtype))


@pytest.mark.parametrize("backbone", [cropformer.build_model("nano").architecture, cropformer_r50()])
def test_every_kind_of_backbone_comes_back(backbone, tiny_architecture, tmp_path):
    numbers = {"depths": (1, 1, 1, 1), "stem": 8, "width": 4, "channels": 16}
    numbers = backbone.backbone_numbers if backbone.backbone == "timm" else numbers
    architecture = replace(tiny_architecture, backbone=backbone.backbone, backbone_numbers=numbers)
    save(cropformer.build(architecture), tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").backbone.channels == cropformer.build(architecture).backbone.channels


def test_settings_come_with_the_weights(tiny_model, tmp_path):
    tiny_model.settings = TestSettings(short_side=320, max_side=512, crops=0, min_score=0.25)
    save(tiny_model, tmp_path / "tiny.safetensors")
    assert read_checkpoint(tmp_path / "tiny.safetensors").settings == tiny_model.settings


CLASSES = {"names": ["cat"], "category_ids": [17], "is_thing": [True]}


def test_classes_come_with_the_weights(tiny_model, tmp_path):
    save(tiny_model, tmp_path / "tiny.safetensors", classes=CLASSES)
    loaded = load(tmp_path / "tiny.safetensors")
    assert loaded.classes == CLASSES
    loaded.save_pretrained(tmp_path / "folder")
    assert load(tmp_path / "folder").classes == CLASSES
    save(tiny_model, tmp_path / "unknown.safetensors")
    assert load(tmp_path / "unknown.safetensors").classes is None


def test_a_place_that_cannot_be_written(tiny_model, tmp_path):
    with pytest.raises(InputError, match=r"Cannot write .*absent/tiny.safetensors: No such file"):
        save(tiny_model, tmp_path / "absent" / "tiny.safetensors")


def test_a_full_disk_keeps_the_earlier_file(tiny_model, tmp_path, monkeypatch):
    path = tmp_path / "tiny.safetensors"
    save(tiny_model, path)
    before = path.read_bytes()

    def fill(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(InputError, match=r"No space left .* writing .*tiny.safetensors"):
        save(tiny_model, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.safetensors"]


# --- checkpoints of a training run


def test_lightning_checkpoints_know_their_model(tiny_architecture, tiny_settings, tmp_path):
    """Heads and points leave no trace in the shapes: 4 heads with 8 points look like 8 with 4."""
    architecture = replace(tiny_architecture, heads=4, points=8)
    model = cropformer.build(architecture, settings=tiny_settings)
    module = cropformer.EntityTraining(model, loss=cropformer.SetLoss(), optimisation=cropformer.Optimisation())
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded, report = load_with_report(tmp_path / "last.ckpt")
    assert (loaded.architecture.heads, loaded.architecture.points) == (4, 8)
    assert loaded.settings == tiny_settings
    assert report.layout == "Lightning checkpoint of ours"
    assert report.exact
    assert_equal(loaded.state_dict(), model.state_dict())


# --- bad files: one sentence each, with the path


def assert_refused(path: Path, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        load(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message


def test_missing_file(tmp_path):
    assert_refused(tmp_path / "none.pth", "there is no weights file at .*; give")
    assert_refused(tmp_path, "there is no weights file at")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_a_number(tiny_model, bad, tmp_path):
    with torch.no_grad():
        tiny_model.query_decoder.class_head.bias[1] = bad
    save(tiny_model, tmp_path / "tiny.safetensors")
    assert_refused(tmp_path / "tiny.safetensors", "NaN or infinity in query_decoder.class_head.bias")


@pytest.mark.parametrize(
    "names",
    [
        ["layers.0.weight"],
        ["backbone.patch_embed.proj.weight", "sem_seg_head.predictor.query_feat.weight"],
        ["backbone.0.body.conv1.weight", "transformer.encoder.layers.0.linear1.weight"],
    ],
)
def test_weights_of_another_model(names, tmp_path):
    state = {name: torch.ones(16, 3, 4, 4) for name in names}
    torch.save(state, tmp_path / "other.pth")
    assert_refused(tmp_path / "other.pth", "is not a CropFormer or Mask2Former checkpoint")


def test_the_layouts_that_are_understood_are_named(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pth")
    assert_refused(tmp_path / "other.pth", "official CropFormer or Mask2Former, Hugging Face Mask2Former, Microsoft")


def test_tensors_without_dimensions(published_state, tmp_path):
    torch.save({name: torch.tensor(1.0) for name in published_state}, tmp_path / "flat.pth")
    assert_refused(tmp_path / "flat.pth", "holds tensors without dimensions where weights belong")


def test_tensors_without_elements(published_state, tmp_path):
    state = published_state | {"sem_seg_head.predictor.query_feat.weight": torch.ones(10**9, 0)}
    torch.save(state, tmp_path / "empty.pth")
    assert_refused(tmp_path / "empty.pth", "holds query_decoder.query_features.weight without elements")


def test_integers_in_place_of_weights(published_state, tmp_path):
    state = published_state | {"sem_seg_head.predictor.decoder_norm.weight": torch.ones(64, dtype=torch.int64)}
    torch.save(state, tmp_path / "integers.pth")
    assert_refused(
        tmp_path / "integers.pth", "holds query_decoder.norm.weight as torch.int64, where torch.float32 belongs"
    )


def test_an_incomplete_model(published_state, tmp_path):
    state = {name: tensor for name, tensor in published_state.items() if "decoder_norm" not in name}
    torch.save(state, tmp_path / "part.pth")
    assert_refused(
        tmp_path / "part.pth", r"query_decoder.norm.weight not in the file, .*see .*`entitytransfer convert`"
    )


def test_more_than_a_model(published_state, tmp_path):
    extra = {f"roi_heads.layers.{i}.weight": torch.ones(2) for i in range(5)}
    torch.save(published_state | extra, tmp_path / "more.pth")
    assert_refused(tmp_path / "more.pth", "roi_heads.layers.0.weight unexpected, .* and 2 more")


def test_a_tensor_of_another_shape(published_state, tmp_path):
    state = published_state | {"sem_seg_head.predictor.decoder_norm.weight": torch.ones(3)}
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=r"query_decoder.norm.weight is \(3,\) in the file and \(64,\) in the model"):
        load(tmp_path / "odd.pth")


@pytest.mark.parametrize(
    "metadata",
    [
        {"architecture": "not json"},
        {"architecture": '{"backbone": "swin"}'},
        {"architecture": '{"backbone": "swin", "backbone_numbers": {}, "from_the_future": 1}'},
        {"architecture": "[1, 2]"},
    ],
    ids=["not json", "incomplete", "newer", "a list"],
)
def test_metadata_that_describes_no_model(metadata, tmp_path):
    save_file({"query_decoder.norm.weight": torch.ones(3)}, tmp_path / "odd.safetensors", metadata=metadata)
    assert_refused(tmp_path / "odd.safetensors", "states an architecture unknown to this version")


@pytest.mark.parametrize("classes", ["no json", "[]", "{}", '{"names": 3}', '{"names": ["a", "b"]}'])
def test_metadata_of_classes_that_the_model_does_not_have(classes, tiny_architecture, tmp_path):
    metadata = describe(tiny_architecture, TestSettings()) | {"classes": classes}
    save_file({"query_decoder.norm.weight": torch.ones(3)}, tmp_path / "odd.safetensors", metadata=metadata)
    assert_refused(tmp_path / "odd.safetensors", "states an architecture unknown to this version")


@pytest.mark.parametrize("changes", [{"channels": 33}, {"heads": 0}, {"channels": "wide"}], ids=str)
def test_metadata_of_a_model_that_cannot_be_built(changes, tiny_architecture, tmp_path):
    metadata = describe(replace(tiny_architecture, **changes), TestSettings())
    save_file({"query_decoder.norm.weight": torch.ones(33)}, tmp_path / "odd.safetensors", metadata=metadata)
    assert_refused(tmp_path / "odd.safetensors", "describes a model that cannot be built")
