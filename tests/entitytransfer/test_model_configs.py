"""Every model config builds the model of its name, and its association can be chosen from the command line."""

from pathlib import Path

import pytest
import torch

import cropformer
from cropformer import InputError
from cropformer.zoo import ARCHITECTURES
from entitytransfer.config import composed, model_architecture

NAMES = sorted(path.stem for path in (Path(__file__).parents[2] / "configs" / "model").glob("*.yaml"))


def architecture(*overrides: str) -> cropformer.Architecture:
    return model_architecture(composed("pretrain", ["data.root=x", *overrides])["model"])


def test_every_model_of_the_zoo_has_a_config():
    assert sorted(ARCHITECTURES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_config_builds_its_model(name):
    ours = architecture(f"model={name}")
    assert ours == cropformer.named_architecture(name)
    with torch.device("meta"):
        model = cropformer.build(ours)
    assert model.query_decoder.query_features.weight.shape[0] == ours.num_queries
    assert (model.association is None) == name.startswith("mask2former_")


@pytest.mark.parametrize(
    "kind", ["none", "cross", "cross+self", "cross+feedforward", "cross+self+feedforward", "learned", "object_tokens"]
)
def test_every_association_can_be_chosen(kind):
    with torch.device("meta"):
        model = cropformer.build(architecture("model=swin_t", f"model.association={kind}"))
    assert model.architecture.association == kind


def test_numbers_can_be_chosen():
    chosen = ["model.batch_layers=0", "model.num_classes=7", "model.fine_level=true"]
    ours = architecture("model.association=object_tokens", *chosen)
    with torch.device("meta"):
        model = cropformer.build(ours)
    assert model.batch_layers == 0
    assert model.query_decoder.class_head.weight.shape[0] == 8
    assert model.fine_level is not None


def test_an_unknown_association_is_one_sentence():
    with pytest.raises(InputError, match="no association 'mean'; choose from none, cross"):
        architecture("model.association=mean")
