"""The benchmarks: their peers compute what we compute, their rows add up, and every script runs."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import common, inference, loader, network, plots, scoring, tables, training, video, video_ways
from benchmarks.published_network import published_network
from benchmarks.published_pipeline import published_pipeline
from benchmarks.published_training import published_losses
from cropformer import InputError, SetLoss, Target, cropformer_losses, make_views
from entitytransfer.readers.coco_json import read_coco

SIDES = {"short_side": 64, "max_side": 107}


# --- the published network


def test_the_published_network_has_our_result(tiny_model, photo):
    views = make_views(photo, **SIDES)
    with torch.inference_mode():
        ours = tiny_model(views)
        output = published_network(tiny_model, views.pixels)
    assert ours.mask_logits().std() > 1
    for queries, sets in ((ours, output.fused), (ours.per_view, output.per_view)):
        assert len(sets.masks) == len(tiny_model.query_decoder.layers) + 1
        assert torch.allclose(sets.class_logits[-1], queries.class_logits, atol=1e-4)
        assert torch.allclose(sets.masks[-1], queries.mask_logits(), atol=1e-2)
        assert torch.allclose(sets.states[-1], queries.embeddings, atol=1e-4)


@pytest.mark.parametrize("crops", [0, 4])
def test_the_published_pipeline_has_our_result(tiny_model, photo, crops):
    ours = tiny_model.segment(photo, crops=crops, compat="official")
    theirs = published_pipeline(tiny_model, photo, crops=crops)
    assert len(theirs.ids.unique()) > 2
    assert np.array_equal(theirs.ids, ours.id_map())
    assert theirs.query_ids == ours.query_ids.tolist()
    assert theirs.scores == pytest.approx(ours.scores.tolist(), abs=1e-5)


@pytest.mark.parametrize("entities", [3, 14])  # of ten queries
def test_the_published_step_has_our_losses_and_gradients(tiny_model, entities):
    with torch.no_grad():
        for layer in tiny_model.pixel_decoder.layers:  # off the pixel centres, where a bilinear read has no slope
            layer.attention.sampling_offsets.bias.add_(0.3)
    pixels, (target,) = training.make_batch("96x64", entities, images=1, views=2)
    hidden = Target(target.labels, target.masks.clone(), target.valid.clone())
    hidden.masks[0, 1], hidden.valid[0, 1] = False, False
    pixels, targets, drawn = pixels.repeat(2, 1, 1, 1, 1), [target, hidden], []

    def draw(count: int, points: int) -> torch.Tensor:
        drawn.append(torch.rand(count, points, 2))
        return drawn[-1]

    def draw_again(count: int, points: int) -> torch.Tensor:
        return drawn.pop(next(i for i, old in enumerate(drawn) if old.shape[:2] == (count, points)))

    torch.manual_seed(0)
    theirs = published_losses(tiny_model, pixels, targets, loss=SetLoss(points=64, draw=draw))
    queries = tiny_model.decode(tiny_model.encode(pixels.flatten(0, 1)), views=2)
    ours = cropformer_losses(queries, targets, loss=SetLoss(points=64, draw=draw_again))
    assert not drawn
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert value.item() == pytest.approx(theirs[name].item(), rel=1e-3), name
    parameters = list(tiny_model.parameters())
    gradients = [torch.autograd.grad(sum(losses.values()), parameters) for losses in (ours, theirs)]
    for mine, published in zip(*gradients):
        assert (mine - published).norm() <= 1e-3 * published.norm() + 1e-4


# --- fresh processes, medians, rows


def test_contenders_take_turns_in_fresh_processes(monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, stdout=f'a log line\n{{"cpu_s": {len(commands)}}}\n')

    monkeypatch.setattr(common.subprocess, "run", run)
    runs = common.alternate("benchmarks.any", ["ours", "peer"], ["--size", "8x8"], repeats=2)
    assert runs == {"ours": [{"cpu_s": 1}, {"cpu_s": 3}], "peer": [{"cpu_s": 2}, {"cpu_s": 4}]}
    assert commands[1] == [sys.executable, "-m", "benchmarks.any", "--measure", "peer", "--size", "8x8"]


def test_rows_hold_medians_ranges_and_ratios():
    runs = {
        "ours": [{"cpu_s": value, "threads": 2} for value in (1.0, 2.0, 5.0)],
        "peer": [{"cpu_s": 6.0, "threads": 2}],
    }
    ours, peer = common.comparison_rows("benchmarks.any", {"size": "8x8"}, runs, peer="peer")
    assert list(ours)[:4] == ["size", "contender", "peer", "repeats"]
    assert (ours["cpu_s_median"], ours["cpu_s_iqr"], ours["cpu_s_ratio"]) == (2.0, 2.0, 3.0)
    assert (peer["cpu_s_iqr"], peer["cpu_s_ratio"], peer["threads"]) == (0.0, 1.0, 2)
    assert ours["command"].startswith("python -m benchmarks.any")
    (alone,) = common.comparison_rows("benchmarks.any", {}, {"ours": runs["ours"]}, peer="peer")
    assert alone["cpu_s_ratio"] == ""
    assert "less CPU than peer" in common.describe(ours)
    assert "less CPU" not in common.describe(alone)


def test_cost_counts_work_and_memory():
    """In a process of its own, as benchmarks are: this one may have freed memory at hand, which would not count."""
    code = (
        "import json; from benchmarks import common; print(json.dumps(common.cost_of(lambda: bytearray(64 << 20))[1]))"
    )
    cost = json.loads(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=common.ROOT).stdout
    )
    assert cost["peak_gib"] >= cost["extra_gib"] > 0.05
    assert cost["cpu_s"] > 0


def test_a_file_of_other_columns_is_left_alone(tmp_path):
    path = tmp_path / "new" / "rows.csv"
    common.append_row(path, {"a": 1, "b": 2})
    common.append_row(path, {"a": 3, "b": 4})
    with pytest.raises(ValueError, match="other columns"):
        common.append_row(path, {"a": 1, "c": 2})
    assert path.read_text().split() == ["a,b", "1,2", "3,4"]


# --- the scripts, in this process and at sizes that take no time


def test_a_case_reads_what_it_writes():
    case = inference.Case.parse("swin_t,640x480,8")
    assert case == inference.Case("swin_t", "640x480", 8, 100)
    assert inference.Case.parse(case.text) == case
    assert case.megapixels == pytest.approx(0.3072)
    assert replace(case, size="2700x4500", crops=4).published_gib > 30 > replace(case, size="1200x1800").published_gib


def test_the_published_way_is_left_out_where_memory_is_short(monkeypatch, capsys):
    asked = []

    def alternate(module, contenders, arguments, *, repeats):
        asked.extend(contenders)
        return {contender: [{"cpu_s": 1.0}] * repeats for contender in contenders}

    monkeypatch.setattr(inference, "alternate", alternate)
    monkeypatch.setattr(inference, "memory_gib", lambda: 2.0)
    rows = inference.measure_case("chosen", inference.Case("any"), repeats=2)
    assert asked == ["ours"]
    assert [row["cpu_s_ratio"] for row in rows] == [""]
    assert "needs" in capsys.readouterr().out


@pytest.mark.parametrize("contender", ["ours", inference.PEER])
def test_a_photo_is_measured(contender):
    measured = inference.measure(contender, inference.Case("nano", "96x64", 4, 120))
    assert measured["weights"] == "trained"
    assert measured["cpu_s"] > 0
    assert json.loads(json.dumps(measured)) == measured


@pytest.mark.parametrize("contender", ["ours", "ours bf16"])
def test_one_view_is_measured(contender):
    measured = network.measure(contender, "64x32")
    assert measured["extra_gib"] >= 0
    assert measured["relative_error"] == "" if contender == "ours" else 0 < measured["relative_error"] < 0.5


def test_the_plain_loader_cuts_what_we_cut(tmp_path):
    loader.make_set(tmp_path, [loader.BUNDLED], short_side=300)
    (sample,) = read_coco(tmp_path / "entities.json", tmp_path / "photos")
    assert len(sample.labels()) == loader.ENTITIES
    for seed in range(4):  # mirrored or not
        crop = replace(loader.draw_crop(seed), short_side=70, max_side=110)
        ours, theirs = (load(sample, crop) for load in (loader.load_cut, loader.load_plain))
        assert ours[1].masks.equal(theirs[1].masks)
        assert (ours[0].pixels - theirs[0].pixels).abs().mean() < 0.03  # decoded at half its size


def test_loaders_are_measured(tmp_path, monkeypatch):
    loader.make_set(tmp_path, [loader.BUNDLED], short_side=200)
    monkeypatch.setattr(loader, "SHORT_SIDES", (60,))
    measured = [loader.measure(contender, tmp_path, images=2) for contender in loader.CONTENDERS]
    assert len({(row["entities"], row["shown"]) for row in measured}) == 1
    assert measured[0]["entities"] == 2 * loader.ENTITIES
    assert all(row["cpu_s"] > 0 for row in measured)


@pytest.mark.slow
@pytest.mark.parametrize("contender", training.CUDA)
def test_both_kinds_of_mask2former_take_a_step(contender):
    """On the CPU; what a GPU is given."""
    pytest.importorskip("transformers")
    model, losses = training.single_view_losses(contender, "64x64", 3, device="cpu")
    assert training.take_step(model, losses)["backward_cpu_s"] >= 0
    assert sum(parameter.grad is not None for parameter in model.parameters()) > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["benchmarks.inference", "--case", "nano,96x64"],
        ["benchmarks.network", "--size", "64x32", "--contenders", "ours", network.PEER],
        ["benchmarks.deformable_attention", "--size", "64x32"],
        ["benchmarks.training", "--size", "64x64", "--device", "cpu", "--contenders", "ours", training.PUBLISHED],
        ["benchmarks.loader", "--short-side", "1600", "--images", "2"],
        ["benchmarks.scoring_maps", "--size", "160x120", "--images", "2"],
        ["benchmarks.video", "--quick", "--parts", "peers"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_script_runs(arguments):
    command = [sys.executable, "-m", *arguments, "--repeats", "1", "--dry-run"]
    finished = subprocess.run(command, cwd=common.ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "less CPU than" in finished.stdout


# --- clips


@pytest.fixture
def small_clip(tmp_path):
    return video.make_clip(tmp_path / "clip.mp4", video.Case("nano", "96x64", 3))


def test_a_stage_within_another_counts_for_itself_alone(monkeypatch):
    clock = iter([0, 1, 3, 6, 10, 15])
    monkeypatch.setattr(video_ways, "cpu_seconds", lambda: next(clock))
    watch = video_ways.Stopwatch()
    with watch.stage("network"), watch.stage("head"):
        pass
    assert list(watch.items("decoding", [])) == []
    assert watch.shares(10) == {
        "decoding_share": 0.5, "network_share": 0.4, "head_share": 0.2, "linking_share": 0, "writing_share": 0
    }  # fmt: skip


def test_windows_of_one_find_what_photos_find(tiny_model, small_clip, tmp_path):
    watch, sides = video_ways.Stopwatch(), {"short_side": 64, "max_side": 96}
    tracks = {
        video_ways.photos(tiny_model, small_clip, watch, crops=0, sides=sides)(),
        video_ways.windowed(tiny_model, small_clip, watch, window=1, sides=sides, folder=None)(),
        video_ways.windowed(tiny_model, small_clip, watch, window=1, sides=sides, folder=tmp_path)(),
    }
    assert len(tracks) == 1 and tracks.pop() > 1
    assert {"clip_overlay.mp4", "clip_ids", "clip_ytvis.json"} <= {path.name for path in tmp_path.iterdir()}
    assert min(watch.shares(1).values()) > 0


def test_instances_of_the_library_keep_their_queries():
    transformers = pytest.importorskip("transformers")
    masks = torch.full((1, 3, 8, 8), -5.0)
    masks[0, 0, :4], masks[0, 2, 4:] = 5, 5  # the second query has no mask
    logits = torch.tensor([[[1.0, 0.0], [9.0, 0.0], [3.0, 0.0]]])
    states = torch.eye(3)[None]
    output = SimpleNamespace(
        class_queries_logits=logits, masks_queries_logits=masks, transformer_decoder_last_hidden_state=states
    )
    processor = transformers.Mask2FormerImageProcessor()
    (theirs,) = processor.post_process_instance_segmentation(output, threshold=0.0)
    window = video_ways._their_instances(processor, output, (16, 16))
    (frame,) = window.frames
    assert frame.query_ids.tolist() == window.query_ids[::-1].tolist() == [2, 0]  # best score first
    assert sorted(frame.scores.tolist()) == pytest.approx(sorted(one["score"] for one in theirs["segments_info"]))
    assert frame.areas().tolist() == [128, 128] and frame.masks()[0, 12, 0]
    assert np.array_equal(window.embeddings, states[0, [0, 2]])


def test_rows_of_clips_tell_speed_shares_and_growth(monkeypatch):
    runs = [{"cpu_s": 4.0, "wall_s": 2.0, "peak_gib": peak, "head_share": peak / 10} for peak in (1.0, 2.0, 3.0)]
    monkeypatch.setattr(video, "make_clip", lambda path, case: path)
    monkeypatch.setattr(video, "alternate", lambda module, names, **_: dict.fromkeys(names, runs))
    pair = list(video.measure_part("peers", [video.Case("nano", "8x8", 8)], repeats=3))[2:]
    assert [(row["against"], row["contender"], row["cpu_s_ratio"]) for row in pair] == [
        ("photos, no crops", "ours", 1.0), ("photos, no crops", "photos, no crops", 1.0)
    ]  # fmt: skip
    assert (pair[0]["frames_per_s"], pair[0]["cpu_s_per_frame"], pair[0]["head_share"]) == (4.0, 0.5, 0.2)
    peaks = iter([2.0, 2.5])
    monkeypatch.setattr(video, "alternate", lambda *_, **__: {video.COMMAND: [{"peak_gib": next(peaks)}]})
    cases = [video.Case("nano", "8x8", frames) for frames in (10, 20)]
    rows = video.measure_part("memory", cases, repeats=1)
    assert [(row["frames"], row["peak_growth"]) for row in rows] == [(10, 1.0), (20, 1.25)]


# --- the page


def write_results(folder: Path) -> None:
    """Photo cases of which the first was measured twice, and one view; the peer is cheaper in one thing."""
    for size, cpu_s, peer_s in (("8x8", 9.0, 9.0), ("8x8", 2.0, 6.0), ("16x16", 4.0, 3.0)):
        runs = {name: [{"cpu_s": value, "peak_gib": 1.5}] for name, value in (("ours", cpu_s), ("published", peer_s))}
        case = {"curve": "megapixels", "model": "nano", "size": size, "megapixels": len(size)}
        for curve in ("published", "megapixels"):
            for row in common.comparison_rows("benchmarks.any", case | {"curve": curve}, runs, peer="published"):
                common.append_row(folder / "inference.csv", row)


def test_the_growth_of_memory_is_told_by_that_of_the_files(monkeypatch, tmp_path):
    """Files from 1 to 5 GiB, memory from 0.5 to 1.5 GiB."""
    runs = {scoring.Case("uvo", units): {"extra_gib": 0.25 + units / 4, "files_gib": units} for units in (1, 5)}
    monkeypatch.setattr(scoring.Case, "write", lambda case, folder: folder / str(case.units))

    def alternate(module, contenders, arguments, *, repeats):
        case = scoring.Case("uvo", int(Path(arguments[-1]).name))
        return {one: [runs[case] | {"cpu_s": 1.0, "wall_s": 2.0}] * repeats for one in contenders}

    monkeypatch.setattr(scoring, "alternate", alternate)
    rows = list(scoring.measure_memory(tmp_path, [tuple(runs)]))
    assert [(row["units"], row["memory_gib"], row["growth_of_files"]) for row in rows] == [(1, 0.5, ""), (5, 1.5, 0.25)]


def test_the_newest_row_of_a_case_counts(tmp_path):
    write_results(tmp_path)
    rows = tables.select(tables.read_rows(tmp_path / "inference.csv"), {"curve": "megapixels", "contender": "ours"})
    assert [(row["size"], float(row["cpu_s_median"])) for row in rows] == [("8x8", 2.0), ("16x16", 4.0)]
    assert tables.read_rows(tmp_path / "missing.csv") == []


def test_a_target_is_reached_or_missed_or_unknown():
    rows = [{"contender": "ours", "cpu_s_ratio": "2.6", "peak_gib_median": "3.1"}]
    faster = tables.Target("faster", "any", {"contender": "ours"}, "cpu_s_ratio", 2.5)
    leaner = tables.Target("leaner", "any", {"contender": "ours"}, "peak_gib_median", 2.5, "GiB", at_least=False)
    assert faster.cells(rows) == ["faster", "≥ 2.5 x", "2.6 x", "yes"]
    assert leaner.cells(rows) == ["leaner", "≤ 2.5 GiB", "3.1 GiB", "**no**"]
    assert faster.cells([])[2:] == ["not measured", ""]


def test_the_page_is_filled_and_filled_again(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    write_results(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(plots.PAGE.read_text())
    options = ["--results", str(tmp_path), "--page", str(page), "--plots", str(tmp_path / "plots")]
    monkeypatch.setattr(sys, "argv", ["plots", *options])
    plots.main()
    first = page.read_text()
    losses = first.split("<!-- begin losses -->")[1].split("<!-- end losses -->")[0]
    assert "16x16" in losses and "8x8" not in losses and "0.75" in losses
    assert (tmp_path / "plots" / "megapixels.svg").stat().st_size > 1000
    plots.main()
    assert page.read_text() == first


def test_a_page_without_a_place_is_refused():
    page = plots.fill_page("a <!-- begin x -->old<!-- end x --> b", {"x": "new"})
    assert page == "a <!-- begin x -->\nnew\n<!-- end x --> b"
    with pytest.raises(InputError, match="no place for y"):
        plots.fill_page("nothing", {"y": "new"})


def test_tables_are_markdown_of_equal_width(tmp_path):
    write_results(tmp_path)
    text = tables.measurements(tables.read_rows(tmp_path / "inference.csv"), hidden=("curve",))
    widths = {line.count("|") for line in text.splitlines()}
    assert len(widths) == 1
    assert "curve" not in text
    assert tables.measurements([]) == tables.NOT_MEASURED
    with (tmp_path / "inference.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + 12
