"""check_rles against cropformer's own codec, and against every kind of damage that reaches a decoder."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cropformer import InputError, rle
from entitytransfer.readers.run_lengths import check_frames, check_rles

SIZE_HW = (6, 9)


def refuse(index, problem):
    return InputError(f"{index}: {problem}")


def check(*segmentations, size_hw=SIZE_HW):
    return check_rles(list(segmentations), [size_hw] * len(segmentations), refuse)


def mask_strategy():
    """Noise, and runs over several columns."""
    noise = st.lists(st.booleans(), min_size=54, max_size=54)
    runs = st.lists(st.tuples(st.booleans(), st.integers(1, 30)), min_size=1, max_size=8)
    long = runs.map(lambda pairs: ([bit for bit, length in pairs for _ in range(length)] + [False] * 54)[:54])
    return (noise | long).map(lambda bits: np.array(bits).reshape(SIZE_HW, order="F"))


@given(st.lists(mask_strategy(), max_size=6))
def test_sound_masks_pass_unchanged_with_their_areas(masks):
    encoded = [rle.encode(mask) for mask in masks]
    checked, areas = check(*encoded)
    assert checked == encoded
    assert areas.tolist() == [int(mask.sum()) for mask in masks]


@given(st.lists(mask_strategy(), max_size=6))
def test_boxes_are_tight(masks):
    encoded = [rle.encode(mask) for mask in masks]
    checked, areas, boxes_xyxy = check_frames(encoded, SIZE_HW, refuse)
    assert checked == encoded
    assert areas.tolist() == [int(mask.sum()) for mask in masks]
    assert boxes_xyxy.tolist() == [rle.bounding_box_xyxy(one).tolist() for one in encoded]


def test_a_frame_of_another_size_is_refused():
    sound = rle.encode(np.ones(SIZE_HW, dtype=bool))
    with pytest.raises(InputError, match=r"1: its RLE has the size \[9, 6\]"):
        check_frames([sound, sound | {"size": [9, 6]}], SIZE_HW, refuse)


@given(mask_strategy())
def test_uncompressed_masks_become_compressed_ones(mask):
    encoded = rle.encode(mask)
    uncompressed = {"size": list(SIZE_HW), "counts": rle.runs(encoded).tolist()}
    assert check(uncompressed)[0] == [encoded]


def test_large_masks_pass():
    mask = np.zeros((5000, 6000), dtype=bool)
    mask[1000:4999, 17:5990:7] = True
    mask[:, -1] = True
    encoded = rle.encode(mask)
    checked, areas = check(encoded, encoded, size_hw=mask.shape)
    assert checked == [encoded, encoded]
    assert areas.tolist() == [mask.sum()] * 2


def test_empty_runs_inside_are_taken_out():
    """Two masks with empty runs at one place make the intersection of the COCO libraries stop early."""
    checked, areas = check({"size": list(SIZE_HW), "counts": [10, 0, 0, 20, 24]})
    assert checked == check({"size": list(SIZE_HW), "counts": [10, 20, 24]})[0]
    assert areas.tolist() == [20]


BAD = {
    "no object": (3, "must be an RLE with size and counts, not 3"),
    "no counts": ({"size": [6, 9]}, "must be an RLE with size and counts"),
    "other size": ({"size": [9, 6], "counts": "f1"}, "has the size [9, 6], but its image or video [6, 9]"),
    "counts of another type": ({"size": [6, 9], "counts": 1.5}, "must be text or a list of runs, not 1.5"),
    "no text": ({"size": [6, 9], "counts": ""}, "not compressed COCO text"),
    "not ascii": ({"size": [6, 9], "counts": "fé"}, "not compressed COCO text"),
    "below the alphabet": ({"size": [6, 9], "counts": "f\n"}, "not compressed COCO text"),
    "above the alphabet": ({"size": [6, 9], "counts": "f~"}, "not compressed COCO text"),
    "unfinished": ({"size": [6, 9], "counts": "f"}, "not compressed COCO text"),
    "overflow": ({"size": [6, 9], "counts": "ooooooo1"}, "not compressed COCO text"),
    "too short": ({"size": [6, 9], "counts": "1"}, "do not add up to its size"),
    "negative run": ({"size": [6, 9], "counts": [60, -6]}, "do not add up to its size"),
    "run beyond 64 bits": ({"size": [6, 9], "counts": [2**70]}, "do not add up to its size"),
    "runs that wrap around": ({"size": [6, 9], "counts": [2**63 - 1, 2**63 - 1, 56]}, "do not add up to its size"),
    "no run": ({"size": [6, 9], "counts": []}, "do not add up to its size"),
    "nested runs": ({"size": [6, 9], "counts": [[54]]}, "do not add up to its size"),
    "ragged runs": ({"size": [6, 9], "counts": [[5], 49]}, "do not add up to its size"),
    "fractions": ({"size": [6, 9], "counts": [53.5, 0.5]}, "do not add up to its size"),
}


@pytest.mark.parametrize("case", BAD)
def test_damage_is_said_with_the_place(case):
    segmentation, sentence = BAD[case]
    sound = rle.encode(np.ones(SIZE_HW, dtype=bool))
    with pytest.raises(InputError) as raised:
        check(sound, sound, segmentation, sound)
    assert str(raised.value).startswith("2: ")
    assert sentence in str(raised.value)


@given(st.data())
def test_random_damage_never_gives_a_mask_of_another_size(data):
    encoded = rle.encode(data.draw(mask_strategy()))
    text = list(encoded["counts"])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(st.characters(min_codepoint=1, max_codepoint=300))
    try:
        (checked,), areas = check({"size": list(SIZE_HW), "counts": "".join(text)})
    except InputError:
        return
    mask = rle.decode(checked)
    assert mask.shape == SIZE_HW
    assert mask.sum() == areas[0]


@given(st.lists(st.text(alphabet=[chr(48 + i) for i in range(64)], min_size=1, max_size=12), min_size=1, max_size=8))
def test_any_text_is_judged_as_the_decoder_judges_it(texts):
    """One text at a time by `rle.runs`, all together here."""
    segmentations = [{"size": list(SIZE_HW), "counts": text} for text in texts]
    try:
        areas = [int(rle.runs(one)[1::2].sum()) for one in segmentations]
    except InputError:
        with pytest.raises(InputError):
            check(*segmentations)
    else:
        assert check(*segmentations)[1].tolist() == areas
