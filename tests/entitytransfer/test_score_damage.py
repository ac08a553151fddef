"""Random damage to ground truth and results: a sentence, or fractions; never a crash or a number that cannot be."""

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cropformer import InputError

from .score_files import Files, coco, ytvis

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


def places(value, path=()):
    """The path to every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path + (key,) for key, _ in inner] + [p for key, one in inner for p in places(one, path + (key,))]


def replaced(content, path, value):
    spoilt = copy.deepcopy(content)
    *parents, last = path
    target = spoilt
    for key in parents:
        target = target[key]
    target[last] = value
    return spoilt


@pytest.mark.parametrize("task, make", [("instance", coco), ("recall", coco), ("ytvis", ytvis), ("uvo", ytvis)])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_random_damage_gives_a_sentence_or_fractions(tmp_path, task, make, data):
    files = Files(tmp_path, make)
    which = data.draw(st.sampled_from(["truth", "results"]))
    content = getattr(files, which)
    path = data.draw(st.sampled_from(places(content)))
    setattr(files, which, replaced(content, path, data.draw(JSON_VALUES)))
    try:
        values = files.score(task)
    except InputError as error:
        assert len(str(error)) < 400 + len(str(tmp_path))
        return
    assert all(value is None or 0 <= value <= 1 for value in values.values())
