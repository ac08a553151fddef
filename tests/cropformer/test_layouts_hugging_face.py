"""Hugging Face's layout: one Mask2Former under the hub's names, those of version 5, and those of the first files."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import cropformer
from cropformer import InputError, load, load_with_report, with_association

# Our names in the hub's; theirs is the model's part for part, with three projections where we have one tensor.
HUB_NAMES = (
    (r"^backbone\.patch_embed\.proj\.", "model.pixel_level_module.encoder.embeddings.patch_embeddings.projection."),
    (r"^backbone\.patch_embed\.norm\.", "model.pixel_level_module.encoder.embeddings.norm."),
    (r"^backbone\.layers\.", "model.pixel_level_module.encoder.encoder.layers."),
    (r"(blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"(blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
    (r"(blocks\.\d+)\.attn\.proj\.", r"\1.attention.output.dense."),
    (r"(blocks\.\d+)\.attn\.", r"\1.attention.self."),
    (r"(blocks\.\d+)\.mlp\.fc1\.", r"\1.intermediate.dense."),
    (r"(blocks\.\d+)\.mlp\.fc2\.", r"\1.output.dense."),
    (r"^pixel_decoder\.layers\.(\d+)\.", r"model.pixel_level_module.decoder.encoder.layers.\1."),
    (r"(decoder\.encoder\.layers\.\d+)\.norm\.", r"\1.self_attn_layer_norm."),
    (r"(decoder\.encoder\.layers\.\d+)\.attention\.", r"\1.self_attn."),
    (r"^pixel_decoder\.input_projections\.(\d)\.conv\.", r"model.pixel_level_module.decoder.input_projections.\1.0."),
    (r"^pixel_decoder\.input_projections\.(\d)\.norm\.", r"model.pixel_level_module.decoder.input_projections.\1.1."),
    (r"^pixel_decoder\.lateral\.conv\.", "model.pixel_level_module.decoder.adapter_1.0."),
    (r"^pixel_decoder\.lateral\.norm\.", "model.pixel_level_module.decoder.adapter_1.1."),
    (r"^pixel_decoder\.output\.conv\.", "model.pixel_level_module.decoder.layer_1.0."),
    (r"^pixel_decoder\.output\.norm\.", "model.pixel_level_module.decoder.layer_1.1."),
    (r"^pixel_decoder\.", "model.pixel_level_module.decoder."),
    (r"^query_decoder\.query_features\.", "model.transformer_module.queries_features."),
    (r"^query_decoder\.query_positions\.", "model.transformer_module.queries_embedder."),
    (r"^query_decoder\.level_embed\.", "model.transformer_module.level_embed."),
    (r"^query_decoder\.class_head\.", "class_predictor."),
    (r"^query_decoder\.norm\.", "model.transformer_module.decoder.layernorm."),
    (
        r"^query_decoder\.mask_head\.layers\.(\d)\.",
        r"model.transformer_module.decoder.mask_predictor.mask_embedder.\1.0.",
    ),
    (r"^query_decoder\.layers\.", "model.transformer_module.decoder.layers."),
    (r"\.(self|cross)_attention\.norm\.", r".\1_attn_layer_norm."),
    (r"\.(self|cross)_attention\.", r".\1_attn."),
    (r"\.feedforward\.norm\.", ".final_layer_norm."),
    (r"\.feedforward\.linear", ".fc"),
)
MEMORY_NAMES = (
    (r"encoder\.(embeddings|encoder)\.(?!layers\.\d+\.self_attn)", r"encoder.swin.\1."),
    (r"decoder\.encoder\.swin\.", "decoder.encoder."),
    (r"attention\.self\.(query|key|value)\.", lambda match: f"attention.{match[1][0]}_proj."),
    (r"attention\.self\.", "attention.relative_position_bias."),
    (r"attention\.output\.dense\.", "attention.o_proj."),
    (r"intermediate\.dense\.", "mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)
FIRST_NAMES = (
    (r"module\.encoder\.(embeddings|encoder)\.", r"module.encoder.model.\1."),
    (r"hidden_states_norms\.stage(\d)", lambda match: f"hidden_states_norms.{int(match[1]) - 1}"),
)
KINDS = {"hub": (), "memory": MEMORY_NAMES, "first": FIRST_NAMES}


def hub_state(model: cropformer.EntitySegmenter) -> dict[str, Tensor]:
    """The model as the hub would hold it, with the constants and the unused last norm of Swin."""
    state: dict[str, Tensor] = {}
    for ours, tensor in model.state_dict().items():
        name = re.sub(r"^backbone\.norms\.(\d)", _stage, ours)
        name = renamed(name, HUB_NAMES)
        thirds = ("query", "key", "value") if "self.qkv" in name else ("q_proj", "k_proj", "v_proj")
        if "self.qkv" in name or ".self_attn.in_proj_" in name:
            for third, part in zip(thirds, tensor.chunk(3)):
                state[re.sub(r"qkv|in_proj_(?=weight|bias)", f"{third}.", name).replace("..", ".")] = part
        else:
            state[name] = tensor
    return state | {
        "model.pixel_level_module.encoder.encoder.layers.0.blocks.0.attention.self.relative_position_index": torch.ones(
            1
        ),
        "model.pixel_level_module.encoder.layernorm.weight": torch.ones(128),
        "criterion.empty_weight": torch.ones(2),
    }


def _stage(match: re.Match[str]) -> str:
    return f"model.pixel_level_module.encoder.hidden_states_norms.stage{int(match[1]) + 1}"


def renamed(name: str, rules: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.fixture(scope="module")
def model(tiny_architecture) -> cropformer.EntitySegmenter:
    torch.manual_seed(0)
    return cropformer.build(with_association(tiny_architecture, "none"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_naming_gives_the_same_model(kind, model, tmp_path):
    state = {renamed(name, KINDS[kind]): tensor for name, tensor in hub_state(model).items()}
    prefix = "model.pixel_level_module.encoder"
    assert {
        "hub": f"{prefix}.encoder.layers.2.blocks.1.attention.self.query.weight",
        "memory": f"{prefix}.swin.encoder.layers.2.blocks.1.attention.q_proj.weight",
        "first": f"{prefix}.model.encoder.layers.2.blocks.1.attention.self.query.weight",
    }[kind] in state
    assert "model.transformer_module.decoder.layers.1.self_attn.v_proj.bias" in state
    torch.save(state, tmp_path / "pytorch_model.bin")
    loaded, report = load_with_report(tmp_path / "pytorch_model.bin")
    assert report.exact
    assert report.layout == "Hugging Face Mask2Former"
    assert len(report.ignored) == 3
    ours = model.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in loaded.state_dict().items())
    assert loaded.association is None


def test_two_thirds_of_a_projection_stay_apart(model, tmp_path):
    state = hub_state(model)
    del state["model.pixel_level_module.encoder.encoder.layers.0.blocks.0.attention.self.key.weight"]
    torch.save(state, tmp_path / "part.bin")
    with pytest.raises(InputError, match=r"attn.qkv.weight not in the file, .*attn.query.weight unexpected"):
        load(tmp_path / "part.bin")
