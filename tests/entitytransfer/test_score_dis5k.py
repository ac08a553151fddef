"""The task dis5k against the numbers of the official tools, and what it says about folders it cannot score."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import InputError
from entitytransfer.cli import main
from entitytransfer.evaluators.dichotomous import DichotomousMeasures
from entitytransfer.readers.grey_maps import list_maps, read_map
from entitytransfer.score_task import score, score_task
from entitytransfer.writers.maps import MapWriter

DATA = Path(__file__).parents[1] / "data" / "metrics" / "dis5k"
TRUTH, MAPS = DATA / "DIS5K" / "DIS-VD" / "gt", DATA / "pred" / "DIS-VD"
PATHS = {"ground_truth": TRUTH, "predictions": MAPS}
EXPECTED = json.loads((DATA / "expected.json").read_text())
TOOLBOX = {"maxF": "maxFm", "meanF": "meanFm", "adpF": "adpFm", "wF": "wFm", "MAE": "MAE", "S": "Sm"}
TOOLBOX |= {"meanE": "meanEm", "maxE": "maxEm", "adpE": "adpEm"}
OFFICIAL = {ours: EXPECTED["values"]["soctoolbox"][theirs] for ours, theirs in TOOLBOX.items()}
OFFICIAL |= {"HCE": EXPECTED["HCE"]["official"]}
PARTS = ("HCE_FP_points", "HCE_FP_regions", "HCE_FN_points", "HCE_FN_regions")
TOLERANCE = 1e-9


def test_folders_score_as_the_official_tools_do():
    metrics = score("dis5k", **PATHS)
    assert {name: metrics[name] for name in OFFICIAL} == pytest.approx(OFFICIAL, rel=0, abs=TOLERANCE)
    assert set(metrics) == {*OFFICIAL, *PARTS}
    assert sum(metrics[part] for part in PARTS) == metrics["HCE"]


def test_the_command_scores_as_the_official_tools_do(tmp_path, capsys):
    out = tmp_path / "score.json"
    assert main(["score", "dis5k", "--gt", str(TRUTH), "--pred", str(MAPS), "--json", str(out)]) == 0
    metrics = json.loads(out.read_text())["metrics"]
    assert {name: metrics[name] for name in OFFICIAL} == pytest.approx(OFFICIAL, rel=0, abs=TOLERANCE)
    lines = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines() if line and line != "protocol")
    assert (lines["maxF"], lines["HCE"], lines["relax"], lines["split"]) == ("0.772", "19.625", "5", "DIS-VD")


def test_the_command_hands_over_every_option(tmp_path):
    out, images, kept = tmp_path / "score.json", tmp_path / "images.txt", tmp_path / "skeletons"
    images.write_text("\n".join(sorted(list_maps(TRUTH))[2:5]))
    typed = f"--relax 3 --epsilon 1.5 --skeletons {kept} --image-list {images} --workers 2"
    typed += f" --bootstrap 4 --seed 1 --split DIS-VD --json {out}"
    assert main(["score", "dis5k", "--gt", str(DATA / "DIS5K"), "--pred", str(DATA / "pred"), *typed.split()]) == 0
    result = score_task("dis5k", **PATHS, relax=3, epsilon=1.5, image_list=images, bootstrap=4, seed=1)
    stored = json.loads(out.read_text())
    assert stored["metrics"] == result.values()
    assert stored["intervals"] == {name: list(pair) for name, pair in result.intervals.items()}
    protocol = stored["protocol"]
    assert [protocol[name] for name in ("relax", "epsilon", "split", "images")] == [3, 1.5, ["DIS-VD"], 3]
    assert len(list(kept.iterdir())) == 3


def test_arrays_score_as_their_files_do():
    metric = DichotomousMeasures()
    for image_id, path in list_maps(MAPS).items():
        metric.update(read_map(path), np.asarray(Image.open(TRUTH / f"{image_id}.png")) > 128)
    assert metric.compute() == score("dis5k", **PATHS)
    drawn = metric.compute(np.array([1, 1, 4]))
    errors = EXPECTED["per_image_soctoolbox"]["MAE"]
    assert drawn["MAE"] == pytest.approx((2 * errors[1] + errors[4]) / 3)


def test_without_hce_the_other_numbers_stay():
    metrics = score("dis5k", **PATHS)
    assert score("dis5k", **PATHS, hce=False) == {
        name: value for name, value in metrics.items() if not name.startswith("HCE")
    }


def test_kept_skeletons_give_equal_numbers_and_are_checked(tmp_path):
    for _ in range(2):
        assert score("dis5k", **PATHS, skeletons=tmp_path) == score("dis5k", **PATHS)
    first, second = sorted(tmp_path.iterdir())[:2]
    whole = first.read_bytes()
    first.write_bytes(whole[:40])
    with pytest.raises(InputError, match="The kept skeleton .* cannot be read; delete it"):
        score("dis5k", **PATHS, skeletons=tmp_path)
    shutil.copy(second, first)
    with pytest.raises(InputError, match="does not belong to its mask; delete it"):
        score("dis5k", **PATHS, skeletons=tmp_path)


def test_splits_are_scored_together(tmp_path):
    for number, image_id in enumerate(list_maps(TRUTH)):
        split = f"DIS-TE{1 + number % 2}"
        for source, target in ((TRUTH, tmp_path / split / "gt"), (MAPS, tmp_path / "pred" / split)):
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / f"{image_id}.png", target)
    both = score("dis5k", ground_truth=tmp_path, predictions=tmp_path / "pred", split="DIS-TE1,DIS-TE2")
    assert both == pytest.approx(score("dis5k", **PATHS))
    one = score_task("dis5k", ground_truth=tmp_path / "DIS-TE1", predictions=tmp_path / "pred" / "DIS-TE1", hce=False)
    named = score_task("dis5k", ground_truth=tmp_path, predictions=tmp_path / "pred", split="DIS-TE1", hce=False)
    assert one.values() == named.values()
    assert (one.protocol["split"], named.protocol["split"]) == ("DIS-TE1", ["DIS-TE1"])
    with pytest.raises(InputError, match="has no folder DIS-TE3/gt of its own; choose splits of DIS5K"):
        score("dis5k", ground_truth=tmp_path, predictions=tmp_path / "pred", split="DIS-TE1,DIS-TE3")


# --- damaged folders


class Folders:
    """Ground truth and maps of two images."""

    def __init__(self, root):
        self.gt, self.pred = root / "gt", root / "pred"
        mask = np.zeros((20, 30), dtype=np.uint8)
        mask[5:15, 5:25] = 255
        for image_id in ("1#a", "2#b"):
            MapWriter(self.gt).write(image_id, mask)
            MapWriter(self.pred).write(image_id, mask // 2)

    def save(self, folder, pixels, mode=None):
        Image.fromarray(pixels).convert(mode).save(folder / "2#b.png")

    def sentence(self, **options):
        with pytest.raises(InputError) as raised:
            score("dis5k", ground_truth=self.gt, predictions=self.pred, **options)
        return str(raised.value)


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


GREY = np.arange(600, dtype=np.uint8).reshape(20, 30)
COLOURS = np.stack([GREY, GREY, 255 - GREY], axis=-1)
BAD_MAPS = {
    "colours": (COLOURS, None, "2#b.png has colours, not 8-bit grey; write it as 8-bit grey."),
    "palette": (GREY, "P", "2#b.png has pixels of mode P, not 8-bit grey"),
    "transparent": (GREY, "LA", "2#b.png has pixels of mode LA, not 8-bit grey"),
    "sixteen bits": (GREY.astype(np.uint16), None, "2#b.png has 16 bits per channel, and maps of DIS5K have 8"),
    "other size": (GREY.T.copy(), None, "2#b.png is 20x30, but its ground truth"),
}


@pytest.mark.parametrize("case", BAD_MAPS)
def test_a_map_that_is_none_is_named(folders, case):
    pixels, mode, sentence = BAD_MAPS[case]
    folders.save(folders.pred, pixels, mode)
    said = folders.sentence()
    assert sentence in said and said.startswith(str(folders.pred))


def test_a_map_that_is_missing_or_left_over_is_named(folders):
    (folders.pred / "2#b.png").rename(folders.pred / "3#c.png")
    assert "has no map for 1 of 2 images, the first of them 2#b.png; predict every image." in folders.sentence()
    shutil.copy(folders.pred / "3#c.png", folders.pred / "2#b.png")
    assert f"{folders.pred / '3#c.png'} has no ground truth in {folders.gt}; remove it" in folders.sentence()
    (folders.pred / "3#c.png").rename(folders.pred / "2#b.PNG")
    assert "are for the same image; remove one." in folders.sentence()


def test_an_empty_or_missing_folder_is_named(folders, tmp_path):
    folders.gt = tmp_path / "nothing"
    assert f"There is no PNG in {folders.gt}; check the path." in folders.sentence()
    folders.gt.mkdir()
    (folders.gt / "._1#a.png").write_bytes(b"left by another system")
    assert f"There is no PNG in {folders.gt}; check the path." in folders.sentence()


@pytest.mark.parametrize("which", ["gt", "pred"])
@pytest.mark.parametrize("kept", [0, 20, 60])
def test_a_truncated_file_is_named(folders, which, kept):
    path = getattr(folders, which) / "2#b.png"
    path.write_bytes(path.read_bytes()[:kept])
    assert str(path) in folders.sentence()


def test_a_ground_truth_that_is_no_mask_is_named(folders):
    folders.save(folders.gt, GREY.astype(np.uint16))
    assert f"{folders.gt / '2#b.png'} has pixels of mode I;16, not 8-bit grey or RGB" in folders.sentence()


@pytest.mark.parametrize("option", [{"relax": -1}, {"epsilon": -0.5}, {"epsilon": float("nan")}])
def test_a_senseless_option_is_named(folders, option):
    assert "HCE needs relax and epsilon of at least 0" in folders.sentence(**option)


def test_grey_may_come_as_equal_colours_and_black_and_white_as_bits(folders):
    def scored(pixels, mode):
        folders.save(folders.pred, pixels, mode)
        return score("dis5k", ground_truth=folders.gt, predictions=folders.pred)

    assert scored(GREY, "RGB") == scored(GREY, None)
    binary = np.where(GREY > 100, np.uint8(255), np.uint8(0))
    assert scored(binary, "1") == scored(binary, None)


# --- the folder of maps


def test_maps_are_read_as_they_were_written(tmp_path):
    generator = np.random.default_rng(0)
    maps = {name: generator.integers(0, 256, (7, 9), dtype=np.uint8) for name in ("1#A#b", "2.5")}
    writer = MapWriter(tmp_path / "maps")
    for image_id, pixels in maps.items():
        writer.write(image_id, pixels)
    found = list_maps(tmp_path / "maps")
    assert sorted(found) == sorted(maps)
    assert all(np.array_equal(read_map(path), maps[image_id]) for image_id, path in found.items())


def test_what_is_no_map_is_not_written(tmp_path):
    writer = MapWriter(tmp_path)
    for image_id in ("", "a/b", ".."):
        with pytest.raises(InputError, match="is no file name"):
            writer.write(image_id, GREY)
    with pytest.raises(InputError, match=r"The map of 'a' is float64 \[20, 30\], not uint8"):
        writer.write("a", GREY / 255)
    assert list(tmp_path.iterdir()) == []
