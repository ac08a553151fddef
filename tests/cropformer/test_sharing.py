"""Sharing a model: what is saved or pushed loads back equal, and its card tells what it is."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import pytest
import torch
from huggingface_hub import ModelCard, constants

import cropformer
from cropformer import InputError, load

from .fake_hub import WRITER, FakeHub, fake_hub


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[FakeHub]:
    """A hub on which this user may write."""
    with fake_hub(tmp_path / "home", monkeypatch) as running:
        monkeypatch.setenv("HF_TOKEN", WRITER)
        yield running


def assert_same_model(ours: cropformer.EntitySegmenter, theirs: cropformer.EntitySegmenter) -> None:
    state = theirs.state_dict()
    assert state.keys() == ours.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())
    assert theirs.settings == ours.settings


# --- a folder


def test_a_folder_loads_back(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "models" / "tiny")
    assert_same_model(tiny_model, load(tmp_path / "models" / "tiny"))
    assert_same_model(tiny_model, load(str(tmp_path / "models" / "tiny" / "model.safetensors")))


def test_the_configuration_is_there_to_read(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["library_name"] == "cropformer"
    assert config["architecture"]["num_queries"] == 10
    assert config["settings"] == asdict(tiny_model.settings)


def test_the_card_tells_what_the_model_is(tiny_model, tmp_path):
    datasets = ["owner/streets"]
    tiny_model.save_pretrained(tmp_path / "tiny", licence="cc-by-4.0", metrics={"AP^e": 0.1234}, datasets=datasets)
    card = ModelCard.load(tmp_path / "tiny" / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.library_name == "cropformer"
    assert card.data.pipeline_tag == "image-segmentation"
    assert card.data.datasets == datasets
    parameters = sum(parameter.numel() for parameter in tiny_model.parameters())
    for said in (
        "# tiny\n",
        "| AP^e | 0.1234 |",
        f"{parameters / 1e6:.1f} M, 10 queries",
        "short side 64, long side at most 107, 4 crops of 0.7 of the side, scores from 0",
        'cropformer.load("tiny")',
    ):
        assert said in card.content
    assert str(tmp_path) not in card.content


def test_the_card_leaves_out_what_is_not_known(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license is None and card.data.datasets is None
    assert "## Numbers" not in card.text


def test_a_plain_mask2former_with_classes_says_so(tiny_architecture, tmp_path):
    numbers = {**asdict(tiny_architecture), "association": "none", "association_feedforward": 0, "num_classes": 133}
    cropformer.build(cropformer.Architecture(**numbers)).save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "Mask2Former finds every entity of a photo or clip with no prompt and each as one of 133 classes." in text
    assert "no crops" in text


def test_earlier_files_are_replaced_and_nothing_else_is_left(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    tiny_model.settings = cropformer.TestSettings(short_side=96, max_side=128, crops=0)
    tiny_model.save_pretrained(tmp_path)
    assert load(tmp_path).settings == tiny_model.settings
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_a_folder_that_cannot_be(tiny_model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="Cannot make the folder .*file: File exists; choose another place"):
        tiny_model.save_pretrained(tmp_path / "file")


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(InputError, match="no weights file at .*model.safetensors"):
        load(tmp_path)


# --- a repository


def test_a_pushed_model_loads_back(hub, tiny_model):
    page = tiny_model.push_to_hub("owner/tiny", licence="apache-2.0", metrics={"AP^e": 0.1}, message="First try")
    assert page == f"{hub.url}/owner/tiny"
    repository = hub.repositories["owner/tiny"]
    assert repository.messages == ["First try"] and not repository.private
    files = repository.commits[repository.branches["main"]]
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    card = files["README.md"].decode()
    assert "license: apache-2.0" in card and 'cropformer.load("hf://owner/tiny")' in card and "# tiny\n" in card
    assert_same_model(tiny_model, load("hf://owner/tiny"))


def test_pushing_again_adds_a_commit(hub, tiny_model):
    tiny_model.push_to_hub("owner/tiny", private=True)
    tiny_model.settings = cropformer.TestSettings(short_side=96, max_side=128, crops=0)
    tiny_model.push_to_hub("owner/tiny", private=True)
    assert hub.repositories["owner/tiny"].private
    assert len(hub.repositories["owner/tiny"].commits) == 2
    assert load("hf://owner/tiny").settings.short_side == 96


def test_pushing_with_a_token_of_ones_own(hub, tiny_model, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match=f"{hub.url} does not let you write to owner/tiny; run `hf auth login`"):
        tiny_model.push_to_hub("owner/tiny")
    assert hub.repositories == {}
    tiny_model.push_to_hub("owner/tiny", token=WRITER)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)  # the library reads it at import and needs it here
    with pytest.raises(InputError, match="does not let you write to owner/tiny"):
        tiny_model.push_to_hub("owner/tiny")
    assert len(hub.repositories["owner/tiny"].commits) == 1


def test_pushing_without_a_network(hub, tiny_model, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="owner/tiny cannot be uploaded to because HF_HUB_OFFLINE is set"):
        tiny_model.push_to_hub("owner/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.stop()
    with pytest.raises(InputError, match=rf"owner/tiny could not be uploaded to on {hub.url} \(.*refused"):
        tiny_model.push_to_hub("owner/tiny")


def test_pushing_to_what_is_no_name(hub, tiny_model):
    with pytest.raises(InputError, match="'owner/a--b' is no name of a repository .*; write owner/name"):
        tiny_model.push_to_hub("owner/a--b")
