"""Checkpoints: our files survive a round trip, published ones are understood, and bad ones get one sentence."""

import errno
import gzip
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import cropformer
from cropformer import InputError, TestSettings, load, load_with_report, read_checkpoint, save_checkpoint
from cropformer.architecture import infer_architecture
from cropformer.checkpoint import IGNORED, OFFICIAL_RULES, official_to_ours
from cropformer.zoo import cropformer_r50, cropformer_swin_l, cropformer_swin_t, mask2former_swin_t

DATA = Path(__file__).parents[1] / "data"
PUBLISHED = {
    "swin_t": cropformer_swin_t(),
    "swin_l": cropformer_swin_l(),
    "r50": cropformer_r50(),
    "m2f_swin_t": mask2former_swin_t(),
}


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
    state = loaded.state_dict()
    assert state.keys() == tiny_model.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in tiny_model.state_dict().items())


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


# --- published files


@pytest.fixture(scope="module")
def published_shapes() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of all tensors of the published models."""
    return json.loads(gzip.decompress((DATA / "official_state_shapes.json.gz").read_bytes()))


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_architectures_are_read_off_their_shapes(kind, published_shapes):
    shapes = {official_to_ours(k): tuple(v) for k, v in published_shapes[kind].items() if not IGNORED.match(k)}
    inferred = infer_architecture(shapes, kind)
    expected = PUBLISHED[kind]
    # Stochastic depth leaves no trace in a file, and tests do not need it.
    assert asdict(inferred.backbone_config()) == asdict(expected.backbone_config())
    assert replace(inferred, backbone_numbers={}) == replace(expected, backbone_numbers={})
    with torch.device("meta"):
        model = cropformer.build(inferred)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == shapes


def test_published_parameter_count_of_mask2former():
    with torch.device("meta"):
        model = cropformer.build(PUBLISHED["m2f_swin_t"])
    assert sum(parameter.numel() for parameter in model.parameters()) == 47_401_340


def test_no_two_published_tensors_get_the_same_name(published_shapes):
    for names in published_shapes.values():
        assert len({official_to_ours(name) for name in names}) == len(names)


def test_every_renaming_rule_is_needed(published_shapes):
    """Each rule changes a published name, or one that older Mask2Former files use."""
    legacy = [
        "sem_seg_head.pixel_decoder.pixel_decoder.mask_features.weight",
        "sem_seg_head.predictor.static_query.weight",
    ]
    names = [*legacy, *(name for shapes in published_shapes.values() for name in shapes)]
    idle = []
    for pattern, replacement in OFFICIAL_RULES:
        renamed = [re.sub("^" + pattern, replacement, name) for name in names]
        if renamed == names:
            idle.append(pattern)
        names = renamed
    assert idle == []
    assert official_to_ours(legacy[0]) == "pixel_decoder.mask_projection.weight"
    assert official_to_ours(legacy[1]) == "query_decoder.query_features.weight"


@pytest.fixture(scope="module")
def published_state() -> dict[str, torch.Tensor]:
    """A small published state dict, with the constants that the published code stores."""
    state = load_file(DATA / "parity" / "swin_tiny_state.safetensors")
    return state | {"criterion_2d.empty_weight": torch.tensor([1.0, 0.1])}


@pytest.mark.parametrize("wrap", ["model", "state_dict", None])
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_published_pickles(published_state, wrap, suffix, tmp_path):
    path = tmp_path / f"model_final{suffix}"
    torch.save({wrap: published_state, "iteration": 7, "optimizer": {}} if wrap else published_state, path)
    model, report = load_with_report(path)
    assert model.settings == TestSettings(800, 1333, 4, 0.5)
    assert len(report.loaded) + len(report.ignored) == len(published_state)
    assert {name.split(".")[-1] for name in report.ignored} == {"empty_weight", "relative_position_index"}
    assert not report.missing
    assert not report.unexpected
    theirs = published_state["sem_seg_head.predictor.query_feat.weight"].float()
    assert torch.equal(model.query_decoder.query_features.weight, theirs)
    assert str(report).startswith(f"{len(report.loaded)} tensors loaded, {len(report.ignored)} constants ignored")


def test_a_plain_mask2former_has_no_association(published_state, tmp_path):
    state = {name: tensor for name, tensor in published_state.items() if "make_3d" not in name}
    torch.save({"model": state}, tmp_path / "m2f.pth")
    model = load(tmp_path / "m2f.pth")
    assert model.association is None
    assert model.settings.crops == 0  # it cannot use any


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


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.99])
def test_truncated_file(published_state, suffix, kept, tmp_path):
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save({"model": published_state}, path)
    else:
        save_file(published_state, path)
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept > 1 else int(kept * len(content))])
    assert_refused(path, "get it again")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_a_number(tiny_model, bad, tmp_path):
    with torch.no_grad():
        tiny_model.query_decoder.class_head.bias[1] = bad
    save(tiny_model, tmp_path / "tiny.safetensors")
    assert_refused(tmp_path / "tiny.safetensors", "NaN or infinity in query_decoder.class_head.bias")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_not_a_checkpoint_at_all(suffix, tmp_path):
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(b"\xff\xd8\xff\xe0 JFIF " * 50)
    assert_refused(path, "get it again")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"model": {}},
        {"model": 3},
        {"model": torch.ones(3)},
        {"epoch": 3, "lr": [0.1, 0.2]},
        [torch.ones(2)],
        torch.ones(2),
    ],
    ids=str,
)
def test_pickles_without_named_tensors(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    assert_refused(tmp_path / "other.pth", "holds no tensors; give a CropFormer or Mask2Former checkpoint")


@pytest.mark.parametrize(
    "names",
    [
        ["layers.0.weight"],
        ["backbone.patch_embed.proj.weight"],
        ["backbone.stem.conv1.weight"],
        ["patch_embed.proj.weight", "layers.0.blocks.0.attn.relative_position_bias_table"],
    ],
)
def test_weights_of_another_model(names, tmp_path):
    state = {name: torch.ones(16, 3, 4, 4) for name in names}
    torch.save(state, tmp_path / "other.pth")
    assert_refused(tmp_path / "other.pth", "is not a CropFormer or Mask2Former checkpoint")


def test_an_incomplete_model(published_state, tmp_path):
    state = {name: tensor for name, tensor in published_state.items() if "decoder_norm" not in name}
    torch.save(state, tmp_path / "part.pth")
    assert_refused(tmp_path / "part.pth", r"does not fit .*query_decoder.norm.* missing or unexpected")


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


class Bomb:
    """A pickle that would write a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "boom")


def test_code_in_a_pickle_does_not_run(published_state, tmp_path):
    torch.save({"model": published_state, "extra": Bomb(tmp_path / "crater")}, tmp_path / "bomb.pth")
    assert_refused(tmp_path / "bomb.pth", "tensor-only checkpoint")
    assert not (tmp_path / "crater").exists()
