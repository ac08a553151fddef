"""Lists read object by object hold what json.loads finds, wherever the window ends and however the file is written."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cropformer import InputError
from entitytransfer.readers import json_lists, json_text
from entitytransfer.readers.json_file import read_json
from entitytransfer.readers.json_lists import GroupedRecords, scan_list, scan_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=3) | st.just("id"), VALUES, max_size=3), max_size=6)
WRITINGS = st.fixed_dictionaries({"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 1, "\t"])})
on_disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(params=[1, 7, 2**20])
def window(request, monkeypatch):
    monkeypatch.setattr(json_text, "_WINDOW", request.param)


@on_disk
@given(objects=OBJECTS, writing=WRITINGS, mark=st.sampled_from(["utf-8", "utf-8-sig"]), data=st.data())
def test_any_objects_of_a_list_are_read_again(tmp_path, window, objects, writing, mark, data):
    path = tmp_path / "list.json"
    path.write_text(json.dumps(objects, **writing), encoding=mark)
    listed = scan_list(path, "thing", fields=("id",))
    assert len(listed) == len(objects)
    assert listed.fields["id"] == [one.get("id", json_lists.MISSING) for one in objects]
    chosen = sorted(data.draw(st.sets(st.integers(0, len(objects) - 1)))) if objects else []
    again = listed.read(np.array(chosen, dtype=np.int64))
    assert [(one.index, one.content) for one in again] == [(index, objects[index]) for index in chosen]


@on_disk
@given(objects=OBJECTS, other=VALUES, writing=WRITINGS)
def test_lists_inside_an_object_are_read_again(tmp_path, window, objects, other, writing):
    path = tmp_path / "object.json"
    content = {"info": other, "things": objects, "name é": other, "size": 12}
    path.write_text(json.dumps(content, **writing), encoding="utf-8")
    found = scan_object(path, lists={"things": ("thing", ())}, fields=("info", "size"))
    assert list(found) == ["info", "things", "size"]
    assert (found["info"], found["size"]) == (other, 12)
    assert [one.content for one in found["things"].read(np.arange(len(objects)))] == objects


@on_disk
@given(text=st.text(alphabet='[]{}",:\\1e-.ta \n', max_size=12))
def test_what_json_refuses_is_refused(tmp_path, window, text):
    path = tmp_path / "any.json"
    path.write_text(text)
    try:
        expected = read_json(path)
    except InputError as error:
        for scan in (lambda: scan_list(path, "thing", fields=()), lambda: scan_object(path, lists={}, fields=())):
            with pytest.raises(InputError, match="is not valid JSON|it must be an object") as raised:
                scan()
            assert str(raised.value).startswith(str(path)) and str(error).startswith(str(path))
        return
    if isinstance(expected, list) and all(isinstance(one, dict) for one in expected):
        assert len(scan_list(path, "thing", fields=())) == len(expected)
    else:
        with pytest.raises(InputError, match="must hold a list of things|thing . must|it must be an object"):
            scan_list(path, "thing", fields=())


def test_the_last_of_two_lists_of_one_name_counts(tmp_path):
    path = tmp_path / "twice.json"
    path.write_text('{"things": [{"a": 1}, {"a": 2}], "things": [{"a": 3}]}')
    things = scan_object(path, lists={"things": ("thing", ())}, fields=())["things"]
    assert [one.content for one in things.read(np.arange(len(things)))] == [{"a": 3}]


def test_objects_are_found_by_what_they_are_about(tmp_path):
    path = tmp_path / "mixed.json"
    path.write_text(json.dumps([{"of": of, "n": n} for n, of in enumerate("babcab")]))
    grouped = GroupedRecords.by(scan_list(path, "thing", fields=("of",)), "of", {"a": 1, "b": 2, "c": 3, "d": 4})
    assert grouped.counts().tolist() == [2, 3, 1, 0]
    listed, groups = grouped.read(0, 2)
    assert [one.content["n"] for one in listed] == [0, 1, 2, 4, 5]
    assert groups == [1, 0, 1, 0, 1]
    assert grouped.read(3, 4) == ([], [])
    assert grouped.sizes().tolist() == [38, 57, 19, 0]


def test_a_file_that_changes_while_it_is_read_is_said(tmp_path):
    path = tmp_path / "list.json"
    path.write_text('[{"a": 1}]')
    listed = scan_list(path, "thing", fields=())
    path.write_text('[{"a": ]}]')
    with pytest.raises(InputError, match="list.json has changed while it was read .*; start again"):
        listed.record(0)
