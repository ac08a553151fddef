"""The segment command on a folder: batches of mixed sizes, and reading and writing beside the network."""

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cropformer
from entitytransfer import segment as segment_module
from entitytransfer.cli import main
from entitytransfer.segment import segment


def write_photos(folder: Path, photo: np.ndarray, sizes_hw: list[tuple[int, int]]) -> list[Path]:
    """Photos of these sizes, all different, named by number."""
    folder.mkdir()
    paths = [folder / f"{index}.png" for index in range(len(sizes_hw))]
    for index, (path, (height, width)) in enumerate(zip(paths, sizes_hw)):
        Image.fromarray(np.roll(photo, 11 * index, axis=(0, 1))).resize((width, height)).save(path)
    return paths


def pictures(folder: Path) -> dict[str, bytes]:
    """The id images, overlays and panoptic images in a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


@pytest.fixture
def batch_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many photos went through the network in each of its calls."""
    sizes: list[int] = []
    forward = cropformer.CropFormer.forward

    def counted(model: cropformer.CropFormer, views: cropformer.Views, **named: object) -> cropformer.Queries:
        sizes.append(len(views.pixels))
        return forward(model, views, **named)

    monkeypatch.setattr(cropformer.CropFormer, "forward", counted)
    return sizes


def test_batches_of_a_mixed_folder_give_what_its_photos_give_alone(options, photo, tmp_path, batch_sizes):
    wide, high, square = (90, 131), (131, 90), (100, 100)
    write_photos(tmp_path / "in", photo, [wide, high, wide, square, high, wide, (3, 5), wide])
    alone, together = replace(options, out_dir=tmp_path / "1"), replace(options, out_dir=tmp_path / "3", batch_size=3)
    assert segment([tmp_path / "in"], alone).done == 8
    assert batch_sizes == [1] * 8
    batch_sizes.clear()
    assert segment([tmp_path / "in"], together).done == 8
    assert batch_sizes == [3, 2, 1, 1, 1]
    assert len(pictures(together.out_dir)) == 3 * 8
    assert pictures(together.out_dir) == pictures(alone.out_dir)


def test_memory_bound_and_precision_reach_the_network(options, photo_file, monkeypatch):
    given = {}

    def recorded(model: object, images: list[np.ndarray], **named: object) -> list[cropformer.Entities]:
        given.update(named)
        return [cropformer.Entities.empty(image.shape[:2]) for image in images]

    monkeypatch.setattr(cropformer.EntitySegmenter, "segment_batch", recorded)
    assert segment([photo_file], replace(options, max_memory="50MB", precision="bf16")).done == 1
    assert (given["max_memory"], given["precision"]) == ("50MB", "bf16")


def test_the_command_line_hands_them_on(options, photo_file, capsys):
    typed = ["segment", str(photo_file), "--out", str(options.out_dir), "--weights", options.weights]
    assert main([*typed, "--max-memory", "1GB", "--precision", "bf16", "--batch-size", "2", "--device", "cpu"]) == 0
    assert (options.out_dir / "photo_ids.png").exists()
    assert main([*typed, "--max-memory", "2 potatoes"]) == 2
    assert "max_memory is '2 potatoes'" in capsys.readouterr().err


def test_a_compiled_model_is_used_for_all(options, photo_file, clip_file, monkeypatch):
    compiled = []
    monkeypatch.setattr(cropformer.EntitySegmenter, "compiled", lambda model: compiled.append(model) or model)
    assert segment([photo_file, clip_file], replace(options, compile=True)).done == 2
    assert len(compiled) == 1


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """How each input went, in the order of the printed lines, without times."""
    printed = capsys.readouterr().out.splitlines()
    return [re.split(r" in |, about", line)[0] for line in printed]


def test_lines_keep_the_order_of_the_work(options, photo, clip_file, tmp_path, capsys):
    paths = write_photos(tmp_path / "in", photo, [(300, 400), (8, 8), (90, 131), (8, 8)])
    paths[2].write_text("no")
    segment([*paths[:3], clip_file, paths[3]], replace(options, min_score=1.0, crops=0))
    assert lines_of(capsys) == [
        f"[1/5] {paths[0]}: 0 entities",
        f"[2/5] {paths[1]}: 0 entities",
        f"[3/5] {paths[2]}: not segmented",
        f"[4/5] {clip_file}: 0 tracks",
        f"[5/5] {paths[3]}: 0 entities",
    ]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does; fail if it does not."""
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The photos that have been read so far."""
    paths: list[Path] = []

    def recorded(path: Path) -> np.ndarray:
        paths.append(path)
        return cropformer.read_image(path)

    monkeypatch.setattr(segment_module, "read_image", recorded)
    return paths


def test_reading_and_writing_go_on_beside_the_network(options, photo, tmp_path, monkeypatch, read):
    write_photos(tmp_path / "in", photo, [(90, 131)] * 5)
    segment_batch, calls = cropformer.EntitySegmenter.segment_batch, []

    def patient(model: cropformer.EntitySegmenter, *arguments: object, **named: object) -> list[cropformer.Entities]:
        calls.append(len(read))
        wait_until(lambda: len(read) == min(5, len(calls) + 1))
        wait_until(lambda: len(calls) == 1 or (options.out_dir / f"{len(calls) - 2}_panoptic.json").exists())
        return segment_batch(model, *arguments, **named)

    monkeypatch.setattr(cropformer.EntitySegmenter, "segment_batch", patient)
    assert segment([tmp_path / "in"], options).done == 5
    assert all(known <= index + 1 for index, known in enumerate(calls, start=1))


def test_an_interruption_leaves_whole_results_only(options, photo, tmp_path, monkeypatch):
    write_photos(tmp_path / "in", photo, [(90, 131)] * 4)
    segment_batch, calls = cropformer.EntitySegmenter.segment_batch, []

    def interrupted(model: cropformer.EntitySegmenter, *arguments: object, **named: object) -> list:
        calls.append(1)
        if len(calls) == 3:
            wait_until((options.out_dir / "0_panoptic.json").exists)
            raise KeyboardInterrupt
        return segment_batch(model, *arguments, **named)

    monkeypatch.setattr(cropformer.EntitySegmenter, "segment_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        segment([tmp_path / "in"], options)
    photos = Counter(path.name[0] for path in options.out_dir.iterdir())
    assert photos in ({"0": 5}, {"0": 5, "1": 5})  # and no hidden temporary file
