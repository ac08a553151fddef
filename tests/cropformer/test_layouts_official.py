"""The official layout: every published model is recognised by its names, read exactly, and written back the same."""

import gzip
import json
import logging
import pickle
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import cropformer
from cropformer import InputError, TestSettings, load, load_with_report, with_association, zoo
from cropformer.architecture import infer_architecture
from cropformer.checkpoint import save_official
from cropformer.layouts import official, translate
from cropformer.layouts.renaming import NameTable

DATA = Path(__file__).parents[1] / "data"
PUBLISHED = {
    "swin_t": zoo.cropformer_swin_t(),
    "swin_l": zoo.cropformer_swin_l(),
    "r50": zoo.cropformer_r50(),
    "hornet_l": zoo.cropformer_hornet_l(),
    "m2f_swin_t": zoo.mask2former_swin_t(),
}


@pytest.fixture(scope="module")
def published_shapes() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of all tensors of the published models."""
    return json.loads(gzip.decompress((DATA / "official_state_shapes.json.gz").read_bytes()))


def small_state(kind: str) -> dict[str, Tensor]:
    """All tensors of a published model with few channels, in the dtypes of published files."""
    state = load_file(DATA / "parity" / f"{kind}_tiny_state.safetensors")
    return {name: t.long() if name.endswith("_index") else t.float() for name, t in state.items()}


def without_association(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The plain Mask2Former in a published CropFormer."""
    plain = {name: tensor for name, tensor in state.items() if "make_3d" not in name and "criterion" not in name}
    return plain | {"criterion.empty_weight": state["criterion_2d.empty_weight"]}


# --- names


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_models_are_read_off_their_names_and_written_back(kind, published_shapes):
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in published_shapes[kind].items()}
    layout, translation = translate(tensors, kind)
    shapes = {name: tuple(tensor.shape) for name, tensor in translation.state.items()}
    inferred, expected = infer_architecture(shapes, kind), PUBLISHED[kind]
    # Stochastic depth leaves no trace in a file, and tests do not need it.
    assert asdict(inferred.backbone_config()) == asdict(expected.backbone_config())
    assert replace(inferred, backbone_numbers={}) == replace(expected, backbone_numbers={})
    with torch.device("meta"):
        state = cropformer.build(inferred).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == shapes
    written = official.from_ours(state, inferred)
    assert {name: list(tensor.shape) for name, tensor in written.items()} == published_shapes[kind]
    assert layout == "official CropFormer or Mask2Former"


def test_every_pair_of_names_is_needed(published_shapes):
    names = {re.sub(r"\.[1-9]\d*\.", ".0.", name) for shapes in published_shapes.values() for name in shapes}
    whole = {name: official.NAMES.to_ours(name) for name in names}
    pairs = official.NAMES.pairs
    rests = (NameTable(pairs[:i] + pairs[i + 1 :]) for i in range(len(pairs)))
    assert [pair for pair, rest in zip(pairs, rests) if {name: rest.to_ours(name) for name in names} == whole] == []


# --- files


@pytest.mark.parametrize("kind", ["swin", "r50", "hornet"])
@pytest.mark.parametrize("plain", [False, True], ids=["cropformer", "mask2former"])
def test_there_and_back_is_exact(kind, plain, tmp_path):
    published = without_association(small_state(kind)) if plain else small_state(kind)
    torch.save({"model": published, "iteration": 7, "optimizer": {"state": {}}}, tmp_path / "published.pth")
    model = load(tmp_path / "published.pth")
    chosen = {"architecture": model.architecture, "settings": model.settings}
    cropformer.save_checkpoint(tmp_path / "ours.safetensors", model.state_dict(), **chosen)
    ours = load(tmp_path / "ours.safetensors")
    save_official(tmp_path / "back.pth", ours.state_dict(), architecture=ours.architecture)
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert back.keys() == published.keys()
    for name, tensor in published.items():
        assert back[name].dtype == tensor.dtype, name
        assert torch.equal(back[name], tensor), name


@pytest.mark.parametrize("wrap", ["model", "state_dict", None])
def test_published_files(wrap, tmp_path):
    published = small_state("swin")
    torch.save({wrap: published, "iteration": 7} if wrap else published, tmp_path / "model_final.pth")
    model, report = load_with_report(tmp_path / "model_final.pth")
    assert model.settings == TestSettings(800, 1333, 4, 0.5)
    assert len(report.loaded) + len(report.ignored) == len(published)
    assert {name.split(".")[-1] for name in report.ignored} == {"empty_weight", "relative_position_index"}
    assert report.exact
    assert torch.equal(model.query_decoder.query_features.weight, published["sem_seg_head.predictor.query_feat.weight"])


def test_a_pickle_of_arrays_as_detectron2_distributes_it(tmp_path):
    state = without_association(small_state("r50"))
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    content = {"model": arrays, "__author__": "someone", "matching_heuristics": True}
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps(content))
    model, report = load_with_report(tmp_path / "model_final.pkl")
    assert report.exact
    assert model.association is None
    assert model.settings.crops == 0  # it cannot use any
    assert torch.equal(model.backbone.stem.conv.weight, state["backbone.stem.conv1.weight"])


@pytest.mark.parametrize(
    "old_name",
    [
        lambda name: name.replace("sem_seg_head.pixel_decoder.", "sem_seg_head."),
        lambda name: name.replace("sem_seg_head.pixel_decoder.", "sem_seg_head.pixel_decoder.pixel_decoder."),
        lambda name: name.replace("query_feat", "static_query"),
    ],
    ids=["without pixel_decoder", "pixel_decoder twice", "static_query"],
)
def test_names_of_older_files(old_name: Callable[[str], str], tmp_path):
    state = small_state("swin")
    older = {old_name(name): tensor for name, tensor in state.items()}
    assert older.keys() != state.keys()
    for name, tensors in (("new", state), ("old", older)):
        torch.save(tensors, tmp_path / f"{name}.pth")
    new, old = (load(tmp_path / f"{name}.pth").state_dict() for name in ("new", "old"))
    assert all(torch.equal(old[name], tensor) for name, tensor in new.items())


def test_of_two_tensors_for_one_place_the_second_is_unexpected(tmp_path):
    state = small_state("swin")
    old = "sem_seg_head.predictor.static_query.weight"
    torch.save(state | {old: torch.ones(2)}, tmp_path / "both.pth")
    with pytest.raises(InputError, match=f"{old} unexpected"):
        load(tmp_path / "both.pth")


# --- what the official layout cannot say


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"association": "cross"}, "no place for .*'cross'"),
        ({"association": "learned"}, "no place for .*'learned'"),
        ({"batch_layers": 1}, "no place for"),
        ({"fine_level": True}, "no place for a fine level"),
        ({"heads": 4, "points": 8}, "means 8 heads and 4 points, not 4 and 8"),
        ({"backbone": "timm", "backbone_numbers": {"name": "resnet18"}}, "no place for a timm backbone"),
    ],
)
def test_other_models_are_not_written(changes, words, tiny_architecture, tmp_path):
    model = cropformer.build(replace(tiny_architecture, **changes))
    with pytest.raises(InputError, match=f"{words}.*; write .safetensors"):
        save_official(tmp_path / "model.pth", model.state_dict(), architecture=model.architecture)
    assert list(tmp_path.iterdir()) == []


def test_the_constants_count_the_classes(tiny_architecture):
    plain = replace(with_association(tiny_architecture, "none"), num_classes=3)
    written = official.from_ours(cropformer.build(plain).state_dict(), plain)
    assert written["criterion.empty_weight"].tolist() == pytest.approx([1, 1, 1, 0.1])
    assert "criterion_2d.empty_weight" not in written


# --- the licence


def test_what_may_be_published_weights_names_their_licence_once(tmp_path, caplog):
    torch.save(small_state("swin"), tmp_path / "published.pth")
    with caplog.at_level(logging.WARNING, logger="cropformer"):
        model = load(tmp_path / "published.pth")
        (warning,) = caplog.messages
        chosen = {"architecture": model.architecture, "settings": model.settings}
        cropformer.save_checkpoint(tmp_path / "ours.safetensors", model.state_dict(), **chosen)
        load(tmp_path / "ours.safetensors")
    assert re.search(r"published\.pth .* if these are the published weights.*CC BY-NC 4\.0", warning)
    assert len(caplog.messages) == 1


def test_a_mask2former_with_classes_is_none_of_the_published_weights(tmp_path, caplog):
    state = without_association(small_state("swin"))
    head = "sem_seg_head.predictor.class_embed"
    classes = {f"{head}.weight": torch.ones(81, 64), f"{head}.bias": torch.ones(81)}
    torch.save(state | classes, tmp_path / "coco.pth")
    load(tmp_path / "coco.pth")
    assert caplog.messages == []
