"""The index of an annotation file: parsed once, mapped ever after, made again when damaged, passed on as a path."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from cropformer import InputError, rle
from entitytransfer.readers import coco_json
from entitytransfer.readers.annotation_index import Texts, cache_folder
from entitytransfer.readers.coco_json import read_classes, read_coco

MASK = np.tri(6, 8, dtype=bool)
IDS = [7, "b/2", 12]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test."""
    monkeypatch.setenv("ENTITYTRANSFER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "annotations"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three images, one of them without an annotation, with annotations out of order."""
    path = tmp_path / "entities.json"
    images = [{"id": i, "file_name": f"ü{n}.png", "height": 6, "width": 8 + n} for n, i in enumerate(IDS)]
    entries = [
        {"id": "crowd", "image_id": 7, "category_id": 2, "iscrowd": 1, "segmentation": rle.encode(MASK), "area": 2.5},
        {"id": "x", "image_id": 12, "category_id": 4, "segmentation": {"size": [6, 10], "counts": [0, 60]}},
        {"id": 3, "image_id": 7, "category_id": 2, "segmentation": rle.encode(MASK)},
        {"id": 4, "image_id": 7, "category_id": 4, "segmentation": rle.encode(~MASK)},
    ]
    categories = [{"id": 4, "name": "größer", "isthing": 0}, {"id": 2, "name": "b"}]
    path.write_text(json.dumps({"images": images, "annotations": entries, "categories": categories}))
    return path


def count_builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are parsed from now on."""
    parsed = []
    load_json = coco_json.load_json
    monkeypatch.setattr(
        coco_json, "load_json", lambda path, **options: (parsed.append(path), load_json(path, **options))[1]
    )
    return parsed


def check(samples) -> None:
    assert [sample.image_id for sample in samples] == IDS
    assert [sample.image_path.name for sample in samples] == ["ü0.png", "ü1.png", "ü2.png"]
    assert samples.sizes_hw.tolist() == [[6, 8], [6, 9], [6, 10]]
    assert samples.entity_counts.tolist() == [2, 0, 1]
    assert [list(sample.annotation.ids) for sample in samples] == [["3", "4", '"crowd"'], [], ['"x"']]
    assert np.array_equal(samples[0].entity_masks(), np.stack([MASK, ~MASK]))
    assert samples[1].entity_masks().shape == (0, 6, 9)
    assert samples[-1].entity_masks().all()
    assert samples[0].truth().areas.tolist() == [MASK.sum(), (~MASK).sum(), 2.5]
    assert samples[0].truth().is_crowd.tolist() == [False, False, True]


def test_a_file_is_parsed_once(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    parsed = count_builds(monkeypatch)
    check(read_coco(source, source.parent))
    check(read_coco(source, source.parent))
    assert read_classes(source).names == ("b", "größer")
    elsewhere = shutil.copy(source, source.with_name("copy.json"))
    check(read_coco(elsewhere, source.parent))
    assert parsed == [source]
    assert len(list(cache.iterdir())) == 1


def test_another_content_is_another_index(source: Path, monkeypatch: pytest.MonkeyPatch):
    read_coco(source, source.parent)
    source.write_text(source.read_text().replace('"height": 6', '"height": 5'))
    assert read_coco(source, source.parent).sizes_hw[:, 0].tolist() == [5, 5, 5]


@pytest.mark.parametrize("damage", ["empty", "short", "half", "changed"])
def test_a_damaged_index_is_made_again(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str):
    read_coco(source, source.parent)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    changed = whole[:300] + bytes([whole[300] ^ 1]) + whole[301:]
    path.write_bytes({"empty": b"", "short": whole[:3], "half": whole[: len(whole) // 2], "changed": changed}[damage])
    parsed = count_builds(monkeypatch)
    check(read_coco(source, source.parent))
    assert parsed == [source]
    assert path.read_bytes() == whole


def test_what_travels_is_a_path(source: Path):
    samples = read_coco(source, source.parent, label_of={2: 0, 4: 5})
    index = pickle.dumps(samples.annotations)
    assert len(index) < 500
    copy = pickle.loads(pickle.dumps(samples))
    check(copy)
    assert copy[0].labels().tolist() == [0, 5]


def test_a_sample_travels_with_its_own_annotations_only(tmp_path: Path):
    masks = [rle.encode(np.random.default_rng(i).random((40, 50)) > 0.5) for i in range(40)]
    images = [{"id": i, "file_name": "a.png", "height": 40, "width": 50} for i in range(40)]
    entries = [{"id": i, "image_id": i, "segmentation": mask} for i, mask in enumerate(masks)]
    (tmp_path / "many.json").write_text(json.dumps({"images": images, "annotations": entries}))
    sample = read_coco(tmp_path / "many.json", tmp_path)[17]
    sent = pickle.dumps(sample)
    assert len(sent) < 2 * len(masks[17]["counts"])
    assert pickle.loads(sent).entity_rles() == [masks[17]]


def test_a_cache_that_cannot_be_written_is_done_without(source: Path, cache: Path, capsys: pytest.CaptureFixture):
    cache.parent.parent.mkdir(exist_ok=True)
    cache.parent.write_text("a file where the folder should be")
    samples = read_coco(source, source.parent)
    check(samples)
    check(pickle.loads(pickle.dumps(samples)))
    (line,) = capsys.readouterr().err.splitlines()
    assert "stays in memory" in line
    assert "name another folder in ENTITYTRANSFER_CACHE" in line


def test_nothing_is_kept_of_a_file_that_is_refused(source: Path, cache: Path):
    source.write_text(source.read_text().replace('"height"', '"hight"'))
    with pytest.raises(InputError, match="KeyError\\('height'\\)"):
        read_coco(source, source.parent)
    assert not cache.exists()


def test_the_cache_lies_in_the_home_folder_unless_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ENTITYTRANSFER_CACHE")
    monkeypatch.setattr(Path, "home", lambda: Path(os.sep) / "home" / "someone")
    assert cache_folder() == Path("/home/someone/.cache/entitytransfer")


def test_strings_in_one_array():
    words = ["", "a", "größer", "", "\ud800", "end"]
    texts = Texts.pack(words)
    assert list(texts) == words
    assert texts[-2] == "\ud800"
    assert list(texts[2:5]) == words[2:5]
    assert list(texts[2:5][1:]) == words[3:5]
    assert list(texts[4:2]) == list(Texts.pack([])) == []
    assert texts[1:3] == Texts.pack(words[1:3]) != Texts.pack(words[1:4])
    with pytest.raises(IndexError):
        texts[6]


def test_samples_are_a_sequence(source: Path):
    samples = read_coco(source, source.parent)
    assert len(samples) == 3
    assert [sample.image_id for sample in samples[1:]] == IDS[1:]
    assert samples[2] == samples[-1] == list(samples)[2]
    with pytest.raises(IndexError):
        samples[3]
