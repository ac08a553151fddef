"""Filling a model from a file: what is taken over, resized or left fresh, how it is reported, and what is refused."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import cropformer
from cropformer import InputError, read_checkpoint, save_checkpoint, with_association
from cropformer.checkpoint import load_into
from cropformer.load_report import LoadReport, Reinitialised


def save(model: cropformer.EntitySegmenter, path: Path) -> None:
    save_checkpoint(path, model.state_dict(), architecture=model.architecture, settings=model.settings)


def assert_equal(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert state.keys() == expected.keys()
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []


def test_a_class_head_of_another_size_starts_fresh(tiny_model, tiny_architecture, tmp_path):
    save(tiny_model, tmp_path / "tiny.safetensors")
    other = cropformer.build(replace(tiny_architecture, num_classes=80))
    before = copy.deepcopy(other.query_decoder.class_head.state_dict())
    report = load_into(other, read_checkpoint(tmp_path / "tiny.safetensors"))
    reason = "2 outputs in the file, 81 in the model"
    assert report.reinitialised == (
        Reinitialised("query_decoder.class_head.weight", (81, 32), reason),
        Reinitialised("query_decoder.class_head.bias", (81,), reason),
    )
    assert not report.exact
    assert f"  re-initialised query_decoder.class_head.bias [81]: {reason}" in str(report).splitlines()
    assert_equal(other.query_decoder.class_head.state_dict(), before)
    assert_equal(other.pixel_decoder.state_dict(), tiny_model.pixel_decoder.state_dict())
    assert not report.unexpected


def test_another_number_of_queries_starts_fresh(tiny_model, tiny_architecture, tmp_path):
    save(tiny_model, tmp_path / "tiny.safetensors")
    report = load_into(
        cropformer.build(replace(tiny_architecture, num_queries=20)), read_checkpoint(tmp_path / "tiny.safetensors")
    )
    assert {(item.name, item.reason) for item in report.reinitialised} == {
        (f"query_decoder.{name}.weight", "10 queries in the file, 20 in the model")
        for name in ("query_features", "query_positions")
    }


def test_what_the_file_lacks_is_reported_by_module(tiny_model, tiny_architecture, tmp_path):
    plain = cropformer.build(with_association(tiny_architecture, "none"))
    save(plain, tmp_path / "plain.safetensors")
    own = copy.deepcopy(tiny_model.association.state_dict())
    report = load_into(tiny_model, read_checkpoint(tmp_path / "plain.safetensors"))
    assert {item.name for item in report.reinitialised} == {f"association.{name}" for name in own}
    assert {item.reason for item in report.reinitialised} == {"not in the file"}
    assert_equal(tiny_model.association.state_dict(), own)
    loaded, fresh = len(plain.state_dict()), len(own)
    values = sum(tensor.numel() for tensor in own.values())
    assert str(report).splitlines() == [
        f"ours: {loaded} tensors loaded, 0 resized, {fresh} re-initialised, 0 ignored, 0 unexpected",
        "  loaded 86 of backbone, 37 of pixel_decoder, 67 of query_decoder",
        f"  re-initialised association ({fresh} tensors, {values:,} values): not in the file",
    ]


def test_what_the_model_lacks_is_unexpected(tiny_model, tiny_architecture, tmp_path):
    save(tiny_model, tmp_path / "tiny.safetensors")
    plain = cropformer.build(with_association(tiny_architecture, "none"))
    report = load_into(plain, read_checkpoint(tmp_path / "tiny.safetensors"))
    assert set(report.unexpected) == {f"association.{name}" for name in tiny_model.association.state_dict()}
    assert not report.exact


@pytest.mark.parametrize(("before", "after"), [(4, 7), (7, 4)])
def test_tables_of_another_window_are_resized(before, after, tiny_architecture, tmp_path):
    theirs, ours = (cropformer.build(with_window(tiny_architecture, window)) for window in (before, after))
    side = 2 * before - 1
    ramp = torch.linspace(-1, 1, side)
    with torch.no_grad():  # head 0 a constant, head 1 grows from row to row
        table = theirs.backbone.layers[0].blocks[0].attn.relative_position_bias_table
        table.copy_(torch.stack((torch.full((side * side,), 0.3), ramp.repeat_interleave(side)), dim=1))
    save(theirs, tmp_path / "other.safetensors")
    report = load_into(ours, read_checkpoint(tmp_path / "other.safetensors"))
    assert {(item.from_shape[0], item.to_shape[0]) for item in report.resized} == {(side**2, (2 * after - 1) ** 2)}
    assert f"  resized 5 tables of relative positions: from window {before} to window {after}" in str(report)
    resized = ours.backbone.layers[0].blocks[0].attn.relative_position_bias_table.detach()
    resized = resized.unflatten(0, (2 * after - 1, 2 * after - 1))  # [(2w-1)^2,M] -> [2w-1,2w-1,M]
    assert torch.allclose(resized[..., 0], torch.tensor(0.3), atol=1e-6)
    assert torch.allclose(resized[..., 1], resized[:, :1, 1].expand(-1, 2 * after - 1), atol=1e-6)
    assert (resized[1:, 0, 1] > resized[:-1, 0, 1]).all()
    assert torch.allclose(resized[:, 0, 1], -resized[:, 0, 1].flip(0), atol=1e-6)  # position 0 stays in the middle


def with_window(architecture: cropformer.Architecture, window: int) -> cropformer.Architecture:
    return replace(architecture, backbone_numbers=architecture.backbone_numbers | {"window": window})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": 64}, "in the file and"),
        ({"decoder_feedforward": 48}, r"linear1.weight is \(32, 32\) in the file and \(48, 32\) in the model"),
        ({"heads": 4, "points": 8}, "8 heads and 4 points, not 4 and 8"),
    ],
)
def test_another_model_is_refused(changes, words, tiny_model, tiny_architecture, tmp_path):
    save(tiny_model, tmp_path / "tiny.safetensors")
    other = cropformer.build(replace(tiny_architecture, **changes))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(InputError, match=rf"tiny.safetensors holds another model: .*{words}"):
        load_into(other, read_checkpoint(tmp_path / "tiny.safetensors"))
    assert_equal(other.state_dict(), before)


def test_a_file_of_which_nothing_fits(tiny_model, tmp_path):
    save_file(
        {"backbone.stem.conv.weight": torch.ones(8, 3, 7, 7), "body.a": torch.ones(1)}, tmp_path / "a.safetensors"
    )
    with pytest.raises(InputError, match=r"a.safetensors holds another model: none of its tensors \(ours\) fits"):
        load_into(tiny_model, read_checkpoint(tmp_path / "a.safetensors"))


def test_a_report_names_few_and_counts_many():
    report = LoadReport(
        "ours",
        loaded=("backbone.a.weight", "query_decoder.norm.bias"),
        reinitialised=(
            Reinitialised("backbone.norms.0.weight", (4,), "not in the file"),
            Reinitialised("query_decoder.norm.weight", (32,), "not in the file"),
            *(Reinitialised(f"association.{i}.weight", (4,), "not in the file") for i in range(3)),
        ),
        ignored=("head.weight", "layers.0.mask", "layers.11.mask"),
        unexpected=("extra.1.a.2.b", "extra.3.a.4.b", "other.1"),
    )
    assert str(report).splitlines() == [
        "ours: 2 tensors loaded, 0 resized, 5 re-initialised, 3 ignored, 3 unexpected",
        "  loaded 1 of backbone, 1 of query_decoder",
        "  re-initialised backbone.norms.0.weight [4]: not in the file",
        "  re-initialised query_decoder.norm.weight [32]: not in the file",
        "  re-initialised association (3 tensors, 12 values): not in the file",
        "  ignored head.weight",
        "  ignored layers.mask (2 tensors)",
        "  unexpected extra.a.b (2 tensors)",
        "  unexpected other.1",
    ]
    assert not report.exact
    assert LoadReport("ours", loaded=("a",), ignored=("b",)).exact
