"""The template of a dataset: copied out of the repository it works by its dotted path; and what it says of damage."""

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import InputError
from entitytransfer.cli import main
from entitytransfer.datasets import forkme
from entitytransfer.doctor import is_healthy

from .test_datasets import make_forkme_tree
from .zero_shot_checks import save_pixels, told

NAME = "mylab.leaves"


@pytest.fixture
def root(tmp_path) -> Path:
    return make_forkme_tree(tmp_path / "set")


@pytest.fixture
def copied(tmp_path, monkeypatch) -> str:
    """A copy of the template in a package that is no part of the repository; its dotted path."""
    package = tmp_path / "elsewhere" / "mylab"
    package.mkdir(parents=True)
    shutil.copy(forkme.__file__, package / "leaves.py")
    monkeypatch.syspath_prepend(package.parent)
    importlib.invalidate_caches()
    return NAME


def test_a_copy_is_examined(copied, root, capsys):
    assert main(["doctor", f"dataset={copied}", f"root={root}"]) == 0
    assert "ok      set: 2 images, 4 entities (2.0 in an image, at most 2), categories: 2" in capsys.readouterr().out


def test_a_copy_is_trained_on_and_evaluated(copied, root, tmp_path, tiny_weights, capsys):
    """Weights of one class learn the two of the set for two steps, and are scored on it."""
    data = [f"data.root={root}", f"data.dataset={copied}"]
    cheap = ["data.short_sides=[64]", "data.max_side=96", "data.workers=0", "batch.total=1", "batch.at_once=1"]
    run = ["finetune", *data, *cheap, f"init={tiny_weights}", "trainer.max_steps=2", f"out={tmp_path / 'tuned'}"]
    assert main([*run, "trainer.accelerator=cpu", "--dry-run"]) == 0
    assert not (tmp_path / "tuned").exists()
    assert main([*run, "trainer.accelerator=cpu"]) == 0
    (weights,) = (tmp_path / "tuned").glob("*.safetensors")
    out = tmp_path / "scored"
    assert main(["evaluate", *data, f"weights={weights}", "device=cpu", f"out={out}", "workers=1"]) == 0
    assert "mIoU" in capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())["metrics"]
    assert 0 <= metrics["mIoU"] <= 1
    assert len(list((out / "labels").iterdir())) == 2


def test_labels_are_classes_and_255_is_none(root):
    samples = forkme.read(root)
    assert samples.classes.names == ("left", "right")
    for sample in samples:
        masks = sample.entity_masks()
        assert sample.labels().tolist() == [0, 1]
        assert not masks[:, :8].any()
        assert masks[:, 8:].sum(axis=0).all()


def test_the_option_is_another_folder(root):
    (root / "labels").rename(root / "drawn")
    assert len(forkme.read(root, labels="drawn")[0].labels()) == 2
    assert is_healthy(forkme.examine(root, labels="drawn"))
    with pytest.raises(InputError, match="Cannot read the label map .*labels"):
        forkme.read(root)[0]


def first(root: Path, folder: str) -> Path:
    return sorted((root / folder).iterdir())[0]


def test_each_damage_is_one_sentence(root):
    label, photo = first(root, "labels"), first(root, "images")
    with Image.open(label) as file:
        pixels = np.asarray(file).copy()
    pixels[20:30, 20:30] = 7
    save_pixels(label, pixels)
    (sentence,) = told(forkme.examine(root), "broken")
    assert f"1 broken map: {label.name}; " in sentence
    assert "holds the value 7, but the classes are 0 to 1 and 255 is ignored" in sentence
    label.unlink()
    (sentence,) = told(forkme.examine(root), "missing")
    assert sentence.startswith(f"1 map of 2 in labels missing: {label.name} > ")
    whole = photo.read_bytes()
    photo.unlink()
    assert len(forkme.read(root)) == 1
    photo.write_bytes(whole[:-300])
    sentences = told(forkme.examine(root), "broken")
    assert sentences[0].startswith(f"1 image unreadable: {photo.name}; ")


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(InputError, match=f"There is no classes.txt in {tmp_path}; give the root of the set, or write"):
        forkme.read(tmp_path)
    (sentence,) = told(forkme.examine(tmp_path), "missing")
    assert sentence.endswith("> Write here where the data can be had, and under which licence.")
