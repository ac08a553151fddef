"""Predictions on disk survive a kill at any byte, and are refused where they are not what was asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cropformer import Entities, InputError
from entitytransfer.prediction_parts import PredictionPart, entities_of, merge_parts, missing_shards

PROTOCOL = {"weights": "nano", "crops": 4, "parts": (1, 2)}


def some_entities(count: int) -> Entities:
    masks = np.arange(20).reshape(1, 4, 5) < np.arange(1, count + 1)[:, None, None]
    return Entities.from_masks(masks, np.linspace(0.3, 0.9, count), np.arange(count))


@pytest.fixture
def part(tmp_path: Path) -> PredictionPart:
    return PredictionPart(tmp_path, (1, 1), PROTOCOL)


def test_what_was_added_is_read_back(part):
    assert part.resume() == set()
    part.add(7, some_entities(3))
    part.add("seven", some_entities(0))
    (first, results), (second, nothing) = part.images()
    assert (first, second, nothing) == (7, "seven", [])
    read, written = entities_of(results, (4, 5)), some_entities(3)
    assert read.rles == written.rles
    assert_array_equal(read.scores, written.scores)
    assert_array_equal(read.labels, written.labels)


def test_a_torn_line_is_cut_off_wherever_it_was_torn(part):
    part.resume()
    part.add(1, some_entities(1))
    whole = part.path.stat().st_size
    part.add(2, some_entities(1))
    content = part.path.read_bytes()
    for end in range(whole, len(content)):
        part.path.write_bytes(content[:end])
        assert part.image_ids() == {1}
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
    ((image_id, results),) = part.images()
    assert (image_id, len(results)) == (1, 2)


def test_shards_that_lack_images_are_named(tmp_path):
    parts = PredictionPart(tmp_path, (1, 3), PROTOCOL).siblings()
    assert [part.path.name for part in parts] == [f"part-{i}-of-3.jsonl" for i in (1, 2, 3)]
    for part in parts[:2]:
        part.resume()
    parts[0].add("a", some_entities(1))
    parts[0].add("d", some_entities(1))
    parts[1].add("b", some_entities(1))
    assert missing_shards(parts, ["a", "b", "c", "d", "e"]) == ["2/3", "3/3"]


def test_images_of_another_set_are_refused(part):
    part.resume()
    part.add("z", some_entities(1))
    with pytest.raises(InputError, match="holds image z, which is not of this shard of the set"):
        missing_shards([part], ["a"])


@pytest.mark.parametrize("counts", [(0, 0), (0, 2), (3, 1)])
def test_merged_results_are_one_coco_file(tmp_path, counts):
    parts = PredictionPart(tmp_path, (1, 2), PROTOCOL).siblings()
    for image_id, (part, count) in enumerate(zip(parts, counts)):
        part.resume()
        part.add(image_id, some_entities(count))
    merge_parts(parts, tmp_path / "predictions.json")
    expected = [result for image_id, count in enumerate(counts) for result in some_entities(count).to_coco(image_id)]
    assert json.loads((tmp_path / "predictions.json").read_text()) == expected


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    part = PredictionPart(tmp_path / "nowhere", (1, 1), PROTOCOL)
    with pytest.raises(InputError, match=r"Cannot write .*part-1-of-1.jsonl: No such file"):
        part.resume()
