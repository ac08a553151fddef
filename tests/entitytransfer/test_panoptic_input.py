"""Damaged panoptic files and label PNGs: one sentence with file and record, or the defined value."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cropformer import InputError
from entitytransfer.cli import main
from entitytransfer.score_task import score

from .panoptic_cases import MAP, PanopticFiles, save

TASKS = ("panoptic", "vipseg")


@pytest.fixture(params=TASKS)
def files(request, tmp_path):
    return PanopticFiles(tmp_path, request.param)


@pytest.fixture
def images(tmp_path):
    return PanopticFiles(tmp_path, "panoptic")


@pytest.fixture
def video(tmp_path):
    return PanopticFiles(tmp_path, "vipseg")


def test_the_sound_files_score(images, tmp_path):
    assert images.score() == dict.fromkeys(images.score(), 1.0)
    metrics = PanopticFiles(tmp_path / "video", "vipseg").score()
    assert {name: value for name, value in metrics.items() if value != 1} == {
        name: None for name in metrics if name.startswith(("VPQ_4", "VPQ_6", "VPQ_8", "VPQ_released"))
    } | dict.fromkeys(("VPQ", "VPQ_th", "VPQ_st", "VPQ_agnostic"))


# --- PNG and JSON


def test_a_missing_png_is_named(files):
    files.png("pred", "b").unlink()
    assert f"Cannot read {files.png('pred', 'b')}" in files.sentence()


@pytest.mark.parametrize("length", [10, 45, 60])
def test_a_truncated_png_is_named(files, length):
    path = files.png("pred", "b")
    path.write_bytes(path.read_bytes()[:length])
    assert str(path) in files.sentence()


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_a_png_of_another_mode_is_refused(files, mode):
    pixels = np.ones((8, 15), dtype=np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(pixels)
    (image.convert("P") if mode == "P" else image).save(files.png("gt", "b"))
    assert f"{files.png('gt', 'b')} has pixels of mode {mode}, not RGB" in files.sentence()


def test_a_prediction_of_another_size_is_refused(files):
    save(files.png("pred", "b"), MAP[:-1])
    said = files.sentence()
    assert f"{files.png('pred', 'b')} has height and width (7, 15) but the ground truth (8, 15)" in said


def test_ground_truth_of_another_size_is_refused(files):
    save(files.png("gt", "b"), MAP[:, :-1])
    assert "has height and width (8, 14) but its JSON says (8, 15)" in files.sentence()


@pytest.mark.parametrize("kind", ["gt", "pred"])
def test_an_id_that_only_the_png_has_is_refused(files, kind):
    save(files.png(kind, "b"), np.where(MAP == 0, 4242, MAP))
    assert f"{files.png(kind, 'b')} has pixels of segment 4242, which its JSON does not list" in files.sentence()


def test_an_id_that_only_the_json_has_is_refused_of_predictions_and_missed_of_the_truth(files):
    extra = {"id": 9, "category_id": 10, "area": 4, "iscrowd": 0}
    files.frame(files.truth)["segments_info"].append(extra)
    assert files.score()["PQ" if files.task == "panoptic" else "VPQ_1"] < 1
    files.frame(files.results)["segments_info"].append(extra)
    assert f"{files.png('pred', 'b')} has no pixels of segment 9, which its JSON lists" in files.sentence()


def test_an_area_below_what_is_visible_is_refused(files):
    files.frame(files.truth)["segments_info"][0]["area"] = 3
    assert "has 40 pixels of segment 7, more than its area 3" in files.sentence()


SEGMENT = {
    "category unknown": ("category_id", 4, "'category_id' 4 is not in the ground truth"),
    "category missing": ("category_id", None, "the field 'category_id' is missing"),
    "id missing": ("id", None, "the field 'id' is missing"),
    "id text": ("id", "7", "'id' must be a whole number from 1 to 16777215, not '7'"),
    "id zero": ("id", 0, "'id' must be a whole number from 1 to 16777215, not 0"),
    "id negative": ("id", -7, "'id' must be a whole number from 1 to 16777215, not -7"),
    "id huge": ("id", 10**30, "'id' must be a whole number from 1 to 16777215, not a huge number"),
    "id twice": ("id", 7, "the id 7 is there twice"),
}


@pytest.mark.parametrize("kind", ["truth", "results"])
@pytest.mark.parametrize("case", SEGMENT)
def test_a_damaged_segment_is_named(files, kind, case):
    name, value, problem = SEGMENT[case]
    segment = files.frame(getattr(files, kind))["segments_info"][1]
    segment[name] = value
    if value is None:
        del segment[name]
    said = files.sentence()
    assert problem in said
    assert said.startswith(str(files.folder / f"{'gt' if kind == 'truth' else 'pred'}.json"))
    assert "1, segment 1:" in said


@pytest.mark.parametrize("area", [-1, "4", float("nan"), 10**400, None])
def test_an_area_that_is_none_is_refused(files, area):
    files.frame(files.truth)["segments_info"][1]["area"] = area
    assert "segment 1: 'area' must be" in files.sentence()


@pytest.mark.parametrize("value", [None, {}, [3], "x"])
def test_segments_of_a_wrong_type_are_refused(files, value):
    files.frame(files.results)["segments_info"] = value
    assert "pred.json" in files.sentence()


def test_a_file_name_must_be_text(files):
    files.frame(files.results)["file_name"] = 5
    assert "'file_name' must be text, not 5" in files.sentence()


def test_a_category_must_say_whether_it_is_a_thing(files):
    files.truth["categories"] = [{"id": 10, "name": "x"}]
    assert "category 0: the field 'isthing' is missing" in files.sentence()


def test_ground_truth_without_categories_is_refused(files):
    files.truth["categories"] = []
    assert "gt.json has no categories" in files.sentence()


# --- which images, which frames


def test_images_must_be_there_once(images):
    spoilt = images.results["annotations"]
    first = spoilt.pop(0)
    assert "pred.json has nothing for 'a'; add its predictions" in images.sentence()
    spoilt += [first, first]
    assert "prediction 2: 'image_id' 'a' was there before" in images.sentence()
    spoilt[2] = first | {"image_id": "c"}
    assert "prediction 2: 'image_id' 'c' is not in the ground truth" in images.sentence()


def test_annotations_must_be_of_listed_images(images):
    images.truth["images"].pop()
    assert "gt.json, annotation 1: 'image_id' 'b' is not in the ground truth" in images.sentence()


def test_frames_must_be_there_once(video):
    frames = video.results["annotations"][0]["annotations"]
    first = frames.pop(0)
    assert "pred.json has no frame 'a' of 'v'; add it" in video.sentence()
    frames += [first, first]
    assert "prediction 0, frame 2: the frame 'a' was there before" in video.sentence()
    frames[2] = first | {"file_name": "c.png"}
    assert "prediction 0, frame 2: the frame 'c' is not in the ground truth" in video.sentence()


def test_videos_must_be_there_once(video):
    videos = video.results["annotations"]
    videos.append(videos[0])
    assert "prediction 1: 'video_id' 'v' was there before" in video.sentence()
    videos[1] = videos[0] | {"video_id": "w"}
    assert "prediction 1: 'video_id' 'w' is not in the ground truth" in video.sentence()
    del videos[:]
    assert "pred.json has nothing for 'v'; add its predictions" in video.sentence()


def test_every_frame_of_the_ground_truth_is_annotated(video):
    removed = video.truth["annotations"][0]["annotations"].pop()
    assert "annotation 0: the frame 'b' of 'v' has no annotation" in video.sentence()
    video.truth["annotations"][0]["annotations"].append(removed)
    video.truth["videos"][0]["images"].pop()
    assert "annotation 0, frame 1: the frame 'b' is not among the images of the video" in video.sentence()
    video.truth["annotations"] = []
    assert "gt.json lists the video 'v' without annotations" in video.sentence()


def test_frames_are_found_by_name_whatever_their_order(video):
    expected = video.score()
    video.results["annotations"][0]["annotations"].reverse()
    assert video.score() == expected


# --- nothing there


def test_predictions_without_segments_score_zero(files):
    for name in "ab":
        save(files.png("pred", name), 0 * MAP)
    for index in (0, 1):
        files.frame(files.results, index)["segments_info"] = []
    metrics = files.score()
    names = ("PQ", "SQ", "RQ") if files.task == "panoptic" else ("VPQ_1", "VPQ_2", "STQ", "AQ", "SQ", "VPQ_1_agnostic")
    assert [metrics[name] for name in names] == [0] * len(names)


def test_ground_truth_without_segments_has_no_numbers(files):
    for kind, content in (("gt", files.truth), ("pred", files.results)):
        for index, name in enumerate("ab"):
            save(files.png(kind, name), 0 * MAP)
            files.frame(content, index)["segments_info"] = []
    assert set(files.score().values()) == {None}


def test_a_set_without_images_has_no_numbers(files):
    files.truth |= {"images": [], "videos": [], "annotations": []}
    files.results["annotations"] = []
    assert set(files.score(bootstrap=5).values()) == {None}


# --- files that are something else


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"[" * 100_000, b"[]", b"{}", b'{"annotations": 3}', b'"text"'])
@pytest.mark.parametrize("name", ["gt.json", "pred.json"])
def test_files_that_are_something_else_are_named(files, content, name):
    files.score()
    (files.folder / name).write_bytes(content)
    paths = {f"{kind}_dir": files.folder / kind for kind in ("gt", "pred")}
    with pytest.raises(InputError, match=name):
        score(files.task, ground_truth=files.folder / "gt.json", predictions=files.folder / "pred.json", **paths)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["a", "b.png", "v"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "annotations"]), inner),
    max_leaves=5,
)


@pytest.mark.parametrize("task", TASKS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_anything_in_place_of_anything_is_a_sentence_or_a_number(tmp_path_factory, task, data):
    files = PanopticFiles(tmp_path_factory.mktemp("any"), task)
    place = data.draw(st.sampled_from([files.truth, files.results]))
    for _ in range(data.draw(st.integers(0, 6))):
        inner = [one for one in (place.values() if isinstance(place, dict) else place) if isinstance(one, (dict, list))]
        if not inner:
            break
        place = data.draw(st.sampled_from(inner))
    if not place:
        return
    key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(JSON)
    try:
        metrics = files.score()
    except InputError as error:
        assert str(files.folder) in str(error)
    else:
        assert all(value is None or 0 <= value <= 1 for value in metrics.values())


# --- options


@pytest.mark.parametrize("windows", [(), (0,), (2, 2), (1, -1)])
def test_windows_must_be_numbers_of_frames(video, windows):
    assert "The windows must be different numbers of at least 1" in video.sentence(windows=windows)


def test_an_unknown_mode_and_no_worker_are_refused(video):
    assert "The option 'stq_mode' must be one of official, corrected, not 'best'" in video.sentence(stq_mode="best")
    assert "The number of workers must be at least 1, not 0" in video.sentence(workers=0)


def test_the_command_says_the_sentence_and_exits_with_two(video, capsys):
    video.png("pred", "b").unlink()
    with pytest.raises(InputError):
        video.score()
    typed = ["score", "vipseg", "--gt", video.folder / "gt.json", "--pred", video.folder / "pred.json"]
    typed += ["--gt-dir", video.folder / "gt", "--pred-dir", video.folder / "pred"]
    assert main([str(part) for part in typed]) == 2
    assert str(video.png("pred", "b")) in capsys.readouterr().err


# --- label PNGs


@pytest.fixture
def labels(tmp_path):
    for kind in ("gt", "pred"):
        for name in ("a", "b"):
            write_labels(tmp_path / kind / f"{name}.png", [[0, 1, 255], [2, 2, 2]])
    return tmp_path


def write_labels(path, rows, mode=np.uint8):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.array(rows, dtype=mode)).save(path)


def score_labels(folder, **options):
    return score("semantic", ground_truth=folder / "gt", predictions=folder / "pred", **options)


def labels_sentence(folder, **options):
    with pytest.raises(InputError) as raised:
        score_labels(folder, **options)
    return str(raised.value)


def test_predictions_on_ignored_pixels_do_not_count(labels):
    for value in (0, 2, 77):
        write_labels(labels / "pred" / "a.png", [[0, 1, value], [2, 2, 2]])
        assert score_labels(labels, num_classes=3) == dict.fromkeys(("mIoU", "fwIoU", "mACC", "pACC"), 1.0)


def test_labels_by_hand(labels):
    write_labels(labels / "pred" / "a.png", [[0, 0, 0], [2, 2, 7]])
    by_hand = {"mIoU": (2 / 3 + 1 / 2 + 5 / 6) / 3, "mACC": (1 + 1 / 2 + 5 / 6) / 3, "pACC": 8 / 10}
    assert score_labels(labels) == pytest.approx(by_hand | {"fwIoU": (2 * 2 / 3 + 2 * 1 / 2 + 6 * 5 / 6) / 10})


def test_label_files_must_match(labels):
    (labels / "pred" / "b.png").unlink()
    assert f"{labels / 'pred'} has no b.png, which {labels / 'gt'} has" in labels_sentence(labels)
    write_labels(labels / "pred" / "b.png", [[0, 1, 255], [2, 2, 2]])
    write_labels(labels / "pred" / "c.png", [[0]])
    assert f"{labels / 'pred' / 'c.png'} has no ground truth" in labels_sentence(labels)
    assert "There is no PNG in" in labels_sentence(labels / "elsewhere")


def test_damaged_labels_are_named(labels):
    path = labels / "pred" / "b.png"
    write_labels(path, [[0, 1], [2, 2]])
    said = labels_sentence(labels)
    assert str(path) in said and "(2, 2) but the ground truth (2, 3)" in said
    write_labels(path, [[0, 1, 1], [2, 9, 2]], np.uint16)
    assert "the prediction has label 9, but classes are below 3" in labels_sentence(labels, num_classes=3)
    Image.new("RGB", (3, 2)).save(path)
    assert f"{path} has pixels of mode RGB" in labels_sentence(labels)
    path.write_bytes(path.read_bytes()[:30])
    assert str(path) in labels_sentence(labels)


def test_labels_without_any_ground_truth_have_no_numbers(labels):
    for name in "ab":
        write_labels(labels / "gt" / f"{name}.png", [[255] * 3] * 2)
    assert set(score_labels(labels).values()) == {None}


def test_the_json_of_the_command_is_strict(labels, tmp_path):
    out = tmp_path / "score.json"
    for name in "ab":
        write_labels(labels / "gt" / f"{name}.png", [[255] * 3] * 2)
    typed = ["score", "semantic", "--gt", labels / "gt", "--pred", labels / "pred", "--json", out]
    assert main([str(part) for part in typed]) == 0
    assert json.loads(out.read_text())["metrics"]["mIoU"] is None
