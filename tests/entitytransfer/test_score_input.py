"""Damaged result and annotation files: one sentence with file and record, or the defined value."""

import math

import pytest

from entitytransfer.cli import main

from .score_files import Files, H, W, coco, encoded, ytvis


@pytest.fixture
def coco_files(tmp_path):
    return Files(tmp_path, coco)


@pytest.fixture
def ytvis_files(tmp_path):
    return Files(tmp_path, ytvis)


def test_the_sound_files_score(coco_files, ytvis_files):
    assert coco_files.score("instance")["AP"] == pytest.approx(0.5, abs=0.01)
    assert ytvis_files.score("ytvis")["AP"] == pytest.approx(1.0)


COCO_RESULTS = {
    "score missing": ("score", None, "prediction 1: the field 'score' is missing"),
    "score nan": ("score", math.nan, "prediction 1: 'score' must be a finite number, not nan"),
    "score infinite": ("score", math.inf, "prediction 1: 'score' must be a finite number, not inf"),
    "score huge": ("score", 10**400, "prediction 1: 'score' must be a finite number, not a huge number"),
    "score text": ("score", "0.5", "prediction 1: 'score' must be a finite number, not '0.5'"),
    "score bool": ("score", True, "prediction 1: 'score' must be a finite number, not True"),
    "image unknown": ("image_id", "c", "prediction 1: 'image_id' 'c' is not in the ground truth"),
    "image list": ("image_id", ["a"], "prediction 1: 'image_id' must be a whole number or text"),
    "category unknown": ("category_id", 4, "prediction 1: 'category_id' 4 is not in the ground truth"),
    "mask missing": ("segmentation", None, "prediction 1: the field 'segmentation' is missing"),
    "mask of another size": (
        "segmentation",
        encoded(1, 2, (W, H)),
        "prediction 1: its RLE has the size [16, 12], but its image or video [12, 16]",
    ),
    "mask overflow": ("segmentation", {"size": [H, W], "counts": "ooooooo1"}, "not compressed COCO text"),
    "negative box": ("bbox", [1, 2, -3, 4], "prediction 1: the box [1, 2, -3, 4] is not x, y, width, height"),
}


@pytest.mark.parametrize("case", COCO_RESULTS)
def test_a_damaged_prediction_is_named(coco_files, case):
    name, value, sentence = COCO_RESULTS[case]
    coco_files.results[1][name] = value
    if value is None:
        del coco_files.results[1][name]
    said = coco_files.sentence("instance")
    assert sentence in said
    assert said.startswith(str(coco_files.results_path))


COCO_TRUTH = {
    "image twice": ("images", "id", "a", "image 1: the id 'a' is already that of image 0"),
    "image ids mixed": ("images", "id", 5, "image ids of both kinds"),
    "image without pixels": ("images", "height", 0, "image 1: height 0 and width 16 are not the size of an image"),
    "image beyond reason": ("images", "height", 10**9, "are not the size of an image"),
    "annotation twice": ("annotations", "id", 1, "annotation 1: the id 1 is already that of annotation 0"),
    "annotation of no image": (
        "annotations",
        "image_id",
        "x",
        "annotation 1: 'image_id' 'x' is not in the ground truth",
    ),
    "crowd": ("annotations", "iscrowd", 2, "annotation 1: 'iscrowd' must be 0 or 1, not 2"),
    "negative area": ("annotations", "area", -1, "annotation 1: 'area' must be at least 0, not -1.0"),
    "area nan": ("annotations", "area", math.nan, "annotation 1: 'area' must be a finite number"),
    "box": ("annotations", "bbox", [0, 0, 1], "annotation 1: the box [0, 0, 1] is not"),
    "polygon far outside": ("annotations", "segmentation", [[0, 0, 9e9, 0, 9, 9]], "annotation 1: A polygon lies far"),
    "polygon of text": ("annotations", "segmentation", [["a", 0, 9, 0, 9, 9]], "annotation 1: A polygon must be"),
}


@pytest.mark.parametrize("case", COCO_TRUTH)
def test_a_damaged_annotation_is_named(coco_files, case):
    table, name, value, sentence = COCO_TRUTH[case]
    coco_files.truth[table][1][name] = value
    said = coco_files.sentence("entity")
    assert sentence in said
    assert str(coco_files.truth_path) in said


YTVIS_RESULTS = {
    "frame missing": (
        "segmentations",
        [None],
        "prediction 0: 'segmentations' must have one entry for each of the 2 frames",
    ),
    "frames no list": ("segmentations", "x", "one entry for each of the 2 frames of its video, not 'x'"),
    "video unknown": ("video_id", 2, "prediction 0: 'video_id' 2 is not in the ground truth"),
    "category unknown": ("category_id", 2, "prediction 0: 'category_id' 2 is not in the ground truth"),
    "score nan": ("score", math.nan, "prediction 0: 'score' must be a finite number, not nan"),
    "mask of another size": (
        "segmentations",
        [None, encoded(1, 2, (W, H))],
        "prediction 0: frame 1: its RLE has the size [16, 12], but its image or video [12, 16]",
    ),
}


@pytest.mark.parametrize("case", YTVIS_RESULTS)
def test_a_damaged_track_is_named(ytvis_files, case):
    name, value, sentence = YTVIS_RESULTS[case]
    ytvis_files.results[0][name] = value
    said = ytvis_files.sentence("ytvis")
    assert sentence in said
    assert said.startswith(str(ytvis_files.results_path))


YTVIS_TRUTH = {
    "length": ("videos", "length", 3, "annotation 0: 'segmentations' must have one entry for each of the 3 frames"),
    "no length": ("videos", "length", "two", "video 0: 'length' must be the number of frames, not 'two'"),
    "areas": ("annotations", "areas", [35], "annotation 0: 'areas' must have one entry for each of the 2 frames"),
    "negative area": (
        "annotations",
        "areas",
        [-3, None],
        "annotation 0: an area must be null or a number of at least 0",
    ),
    "box": ("annotations", "bboxes", [[1, 2, 3, -4], None], "annotation 0: the box [1, 2, 3, -4] is not"),
}


@pytest.mark.parametrize("case", YTVIS_TRUTH)
def test_a_damaged_annotated_track_is_named(ytvis_files, case):
    table, name, value, sentence = YTVIS_TRUTH[case]
    ytvis_files.truth[table][0][name] = value
    assert sentence in ytvis_files.sentence("uvo")


BAD_FILES = {
    "no json": (b"{", "is not valid JSON"),
    "binary": (b"\x00\xff\xfe", "is not valid JSON"),
    "nested": (b"[" * 200_000, "is nested too deeply"),
    "huge number": (b"[" + b"9" * 5000 + b"]", "is not valid JSON"),
    "object": (b"{}", "must hold a list of predictions, not an object"),
    "list of numbers": (b"[1]", "prediction 0: it must be an object, not 1"),
}


@pytest.mark.parametrize("task", ["entity", "ytvis"])
@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_is_no_result_file_is_said_by_the_command(tmp_path, capsys, task, case):
    content, sentence = BAD_FILES[case]
    files = Files(tmp_path, coco if task == "entity" else ytvis)
    files.score(task)
    files.results_path.write_bytes(content)
    typed = ["score", task, "--gt", str(files.truth_path), "--pred", str(files.results_path)]
    assert main(typed) == 2
    said = capsys.readouterr().err
    assert said.startswith(str(files.results_path))
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("task", ["entity", "instance", "recall"])
def test_empty_coco_files_have_defined_values(coco_files, task):
    coco_files.results = []
    values = coco_files.score(task)
    assert {value for value in values.values() if value is not None} == {0.0}
    coco_files.truth["annotations"] = []
    assert set(coco_files.score(task).values()) == {None}
    coco_files.results = coco()[1]
    assert set(coco_files.score(task).values()) == {None}
    coco_files.truth["images"], coco_files.results = [], []
    assert set(coco_files.score(task, bootstrap=2).values()) == {None}


@pytest.mark.parametrize("task", ["ytvis", "uvo"])
def test_empty_video_files_have_defined_values(ytvis_files, task):
    ytvis_files.results = []
    assert ytvis_files.score(task)["AP"] == 0.0
    ytvis_files.truth["annotations"] = []
    assert set(ytvis_files.score(task).values()) == {None}
    ytvis_files.truth["videos"] = []
    assert set(ytvis_files.score(task).values()) == {None}


def test_where_all_count_as_one_class_category_ids_do_not_matter(coco_files, ytvis_files):
    for category_id in (99, "other"):
        coco_files.results[0]["category_id"] = ytvis_files.results[0]["category_id"] = category_id
        assert coco_files.score("entity")["AR100"] == pytest.approx(0.5)
        assert ytvis_files.score("uvo")["AP"] == pytest.approx(1.0)


BAD_OPTIONS = {
    "max_dets": ((10, 1), "must ascend from 1 or more"),
    "iou_thresholds": ((0.5, 1.5), "must ascend between 0 and 1"),
    "top_k": (0, "must be at least 1"),
    "overlap": ("mix", "must be one of keep, remove, not 'mix'"),
    "bootstrap": (-1, "at least 0"),
}


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_an_impossible_option_is_said(coco_files, option):
    value, sentence = BAD_OPTIONS[option]
    assert sentence in coco_files.sentence("entity", **{option: value})


def test_an_image_list_with_an_unknown_image_is_said(coco_files, tmp_path):
    (tmp_path / "list.txt").write_text("a\n\nz\n")
    said = coco_files.sentence("entity", image_list=tmp_path / "list.txt")
    assert said == f"{tmp_path / 'list.txt'}, line 3: 'z' is not in the ground truth; remove it."
