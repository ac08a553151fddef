"""Predictions on disk survive a kill at any byte, and are refused where they are not what was asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cropformer import Entities, InputError
from entitytransfer.evaluation import prediction_parts
from entitytransfer.evaluation.prediction_parts import PredictionPart, missing_shards, read_results

from .evaluator_cases import sample_of, truth_of

PROTOCOL = {"weights": "nano", "crops": 4, "parts": (1, 2)}
SIZE_HW = (4, 5)


def some_entities(count: int) -> Entities:
    masks = np.arange(20).reshape(1, 4, 5) < np.arange(1, count + 1)[:, None, None]
    return Entities.from_masks(masks, np.linspace(0.3, 0.9, count), np.arange(count))


def some_map(grey: int) -> np.ndarray:
    return np.arange(grey, grey + 20, dtype=np.uint8).reshape(SIZE_HW)  # [20] -> [H,W]


@pytest.fixture
def part(tmp_path: Path) -> PredictionPart:
    (tmp_path / "predictions").mkdir()
    return PredictionPart(tmp_path, (1, 1), PROTOCOL)


def read(part: PredictionPart, image_id: int | str) -> Entities | np.ndarray:
    return part.read(part.places()[image_id], SIZE_HW)


def test_what_was_added_is_read_back(part):
    assert part.resume() == set()
    part.add(7, some_entities(3))
    part.add("seven", some_entities(0))
    assert part.resume() == {7, "seven"}
    found, written = read(part, 7), some_entities(3)
    assert found.rles == written.rles
    assert_array_equal(found.scores, written.scores)
    assert_array_equal(found.labels, written.labels)
    assert len(read(part, "seven")) == 0


@pytest.mark.parametrize("image_id", ["1#Bag#2_o", "DIS-VD/1#Bag#2_o", "a.b"])
def test_a_map_is_a_png_where_the_official_tools_look_for_it(part, tmp_path, image_id):
    part.resume()
    part.add(image_id, some_map(3))
    assert (tmp_path / "maps" / f"{image_id}.png").is_file()
    assert_array_equal(read(part, image_id), some_map(3))


@pytest.mark.parametrize("image_id", ["../a", "/a", "a/../../b", ".a"])
def test_a_map_stays_in_its_folder(part, image_id):
    part.resume()
    with pytest.raises(InputError, match="is no file name"):
        part.add(image_id, some_map(3))


def test_a_map_whose_line_is_missing_is_predicted_again(part, monkeypatch):
    part.resume()

    def killed(*arguments: object) -> None:
        write_map(*arguments)
        raise KeyboardInterrupt

    write_map = prediction_parts.write_map
    monkeypatch.setattr(prediction_parts, "write_map", killed)
    with pytest.raises(KeyboardInterrupt):
        part.add("a", some_map(0))
    monkeypatch.undo()
    assert part.resume() == set()
    part.add("a", some_map(1))
    assert_array_equal(read(part, "a"), some_map(1))


def test_a_torn_line_is_cut_off_wherever_it_was_torn(part):
    part.resume()
    part.add(1, some_entities(1))
    whole = part.path.stat().st_size
    part.add(2, some_entities(1))
    content = part.path.read_bytes()
    for end in range(whole, len(content)):
        part.path.write_bytes(content[:end])
        assert set(part.places()) == {1}
        assert part.resume() == {1}
        assert part.path.read_bytes() == content[:whole]
    part.add(2, some_entities(1))
    assert part.path.read_bytes() == content


def test_a_torn_first_line_is_written_again(part):
    part.path.write_text('{"weights"')
    assert part.resume() == set()
    assert json.loads(part.path.read_text()) == {**PROTOCOL, "parts": [1, 2]}


def test_a_damaged_line_in_the_middle_is_named(part):
    part.resume()
    part.path.write_text(part.path.read_text() + "?\n")
    part.add(1, some_entities(1))
    with pytest.raises(InputError, match=r"Line 2 of .*part-1-of-1.jsonl is damaged; delete the file"):
        part.resume()


def test_predictions_of_another_protocol_are_refused(part, tmp_path):
    part.resume()
    other = PredictionPart(tmp_path, (1, 1), {**PROTOCOL, "crops": 0})
    with pytest.raises(InputError, match=r"was made with crops=4, not 0; choose another out=, or delete it"):
        other.resume()


def test_an_image_that_is_there_twice_counts_once(part):
    part.resume()
    part.add(1, some_entities(2))
    part.add(1, some_entities(3))
    assert len(read(part, 1)) == 2


def filled_shards(tmp_path: Path, image_ids: str, count: int) -> list[PredictionPart]:
    """Image k has k entities, whichever shard it is in."""
    (tmp_path / "predictions").mkdir(exist_ok=True)
    parts = PredictionPart(tmp_path, (1, count), PROTOCOL).siblings()
    for index, part in enumerate(parts):
        part.resume()
        for place in reversed(range(index, len(image_ids), count)):
            part.add(image_ids[place], some_entities(place))
    return parts


def test_shards_that_lack_images_are_named(tmp_path):
    parts = filled_shards(tmp_path, "abcd", 3)
    assert [part.path.name for part in parts] == [f"part-{i}-of-3.jsonl" for i in (1, 2, 3)]
    assert missing_shards(parts, "abcd") == []
    assert missing_shards(parts, "abcdef") == ["2/3", "3/3"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_set(tmp_path, count):
    samples = [sample_of(truth_of([]), SIZE_HW, image_id) for image_id in "abcde"]
    found = list(read_results(filled_shards(tmp_path, "abcde", count), samples))
    assert [sample for sample, _ in found] == samples
    assert [len(result) for _, result in found] == [0, 1, 2, 3, 4]


def test_images_of_another_set_are_refused(part):
    part.resume()
    part.add("z", some_entities(1))
    with pytest.raises(InputError, match="holds z, which is not of this shard of the set"):
        missing_shards([part], ["a"])


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    part = PredictionPart(tmp_path / "nowhere", (1, 1), PROTOCOL)
    with pytest.raises(InputError, match=r"Cannot write .*part-1-of-1.jsonl: No such file"):
        part.resume()
