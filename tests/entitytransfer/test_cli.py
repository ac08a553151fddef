"""The command line from outside: exit codes, and one sentence on the standard error stream for everything bad."""

import errno
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cropformer
from entitytransfer import segment as segment_module
from entitytransfer.cli import main

Segment = Callable[..., int]


@pytest.fixture
def out_dir(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def segment(out_dir: Path, tiny_weights: Path) -> Segment:
    """Run `entitytransfer segment` with the tiny weights; later flags override."""

    def run(*arguments: str | Path) -> int:
        flags = ["--out", str(out_dir), "--weights", str(tiny_weights), "--device", "cpu"]
        return main(["segment", *flags, *map(str, arguments)])

    return run


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on the standard error stream."""
    (line,) = capsys.readouterr().err.splitlines()
    assert "Traceback" not in line
    return line


# --- help and arguments


def test_help_lists_exactly_the_commands_that_exist(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    listed = capsys.readouterr().out.split("COMMAND\n")[-1]
    starts = [line.split()[0] for line in listed.splitlines() if line.startswith("    ") and line[4] != " "]
    assert starts == [
        *("demo", "segment", "pretrain", "finetune", "evaluate", "zeroshot", "compare", "score"),
        *("prepare", "doctor", "stats", "consistency", "launch", "convert"),
    ]


def test_a_reader_that_has_seen_enough_is_no_failure():
    read_end, write_end = os.pipe()
    os.close(read_end)
    entities = Path(__file__).parents[1] / "data" / "coco_tiny" / "instances.json"
    command = [sys.executable, "-m", "entitytransfer", "consistency", "--first", entities, "--second", entities]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_waits_for_no_heavy_library():
    code = (
        "import sys, entitytransfer.cli as cli; cli.build_parser(); "
        "sys.exit(','.join({'torch', 'numpy', 'av', 'hydra', 'lightning', 'rich'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_module_is_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "entitytransfer", "nonsense"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["segment"], "PATH, --out"),
        (["segment", "a.png", "--out", "o", "--stride", "0"], "at least 1, not '0'"),
        (["segment", "a.png", "--out", "o", "--crops", "-1"], "at least 0, not '-1'"),
        (["segment", "a.png", "--out", "o", "--min-score", "50"], "from 0 to 1, not '50'"),
        (["segment", "a.png", "--out", "o", "--shard", "2"], "such as 1/4, not '2'"),
        (["segment", "a.mp4", "--out", "o", "--start-time", "1:x"], "such as 90, 1:30 or 0:01:30.5, not '1:x'"),
        (["segment", "a.png", "--out", "o", "--precision", "fp8"], "invalid choice: 'fp8'"),
        (["segment", "a.png", "--out", "o", "--crop", "4"], "unrecognized arguments: --crop 4"),
    ],
)
def test_arguments_that_make_no_sense(capsys, arguments, words):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert words in sentence(capsys)


# --- inputs that are fine


def pixels_of(mode: str, photo: np.ndarray) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(photo[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(photo).convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("RGBA", "png"), ("I;16", "png"), ("P", "png"), ("CMYK", "jpg"), ("1", "bmp")]
)
def test_every_kind_of_image(segment, out_dir, tmp_path, photo, mode, suffix):
    pixels_of(mode, photo).save(tmp_path / f"a.{suffix}")
    assert segment(tmp_path / f"a.{suffix}") == 0
    assert Image.open(out_dir / "a_overlay.png").size == (131, 90)


def test_a_turned_photo_is_segmented_upright(segment, out_dir, tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    Image.fromarray(photo).save(tmp_path / "a.jpg", exif=exif)
    assert segment(tmp_path / "a.jpg") == 0
    assert Image.open(out_dir / "a_overlay.png").size == (90, 131)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (3, 3), (1, 40), (300, 2)])
def test_tiny_and_thin_images(segment, out_dir, tmp_path, size):
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    assert segment(tmp_path / "a.png") == 0
    assert Image.open(out_dir / "a_ids.png").size == size


# --- inputs that are not


def make_bad(kind: str, folder: Path, photo: np.ndarray) -> Path:
    """A bad input of a kind."""
    path = folder / kind
    if kind == "truncated.jpg":
        Image.fromarray(photo).save(path, quality=95)
        path.write_bytes(path.read_bytes()[:-600])
    elif kind.startswith("empty."):
        path.touch()
    elif kind.startswith("text."):
        path.write_text("no")
    elif kind == "folder":
        path.mkdir()
    return path


BAD_INPUTS = {
    "missing.jpg": "There is no file or folder {path}; check the path.",
    "missing.mp4": "There is no file or folder {path}; check the path.",
    "empty.jpg": "{path} is empty (0 bytes); copy or download it again.",
    "empty.mp4": "{path} is empty (0 bytes); copy or download it again.",
    "text.png": "{path} is not an image; give a JPEG, PNG, WebP, BMP or TIFF file.",
    "text.mp4": "{path} is not a video that can be read",
    "text.txt": "{path} is not an image",
    "truncated.jpg": "{path} is damaged or truncated",
    "folder": "The folder {path} holds no image and no video; give a folder that does.",
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
def test_a_bad_input_is_one_sentence(segment, tmp_path, photo, capsys, kind):
    path = make_bad(kind, tmp_path, photo)
    assert segment(path) == 2
    assert sentence(capsys).startswith(BAD_INPUTS[kind].format(path=path))


def test_bad_inputs_among_good_ones_are_listed_at_the_end(segment, out_dir, photo_file, clip_file, photo, capsys):
    bad = [
        make_bad(kind, photo_file.parent, photo) for kind in ("text.png", "truncated.jpg", "text.mp4", "missing.jpg")
    ]
    assert segment(bad[0], photo_file, *bad[1:], clip_file) == 2
    output = capsys.readouterr()
    assert "2 segmented, 0 skipped, 4 failed" in output.out
    lines = output.err.splitlines()
    assert len(lines) == 4
    assert all(any(str(path) in line for line in lines) for path in bad)
    assert (out_dir / "photo_overlay.png").exists()
    assert (out_dir / "clip_overlay.mp4").exists()


def test_a_video_without_pictures(segment, tmp_path, capsys):
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        container.mux([*stream.encode(silence), *stream.encode(None)])
    assert segment(path) == 2
    assert sentence(capsys) == f"{path} has no video stream, or has lost what tells of it; give a file with pictures."


def test_a_range_without_frames(segment, clip_file, capsys):
    assert segment(clip_file, "--start-frame", "100") == 2
    assert "has only 6 readable frames" in sentence(capsys)


# --- weights, device, formats


def test_unknown_weights(segment, photo_file, capsys):
    assert segment(photo_file, "--weights", "giant") == 2
    assert "giant" in sentence(capsys)


def test_weights_that_are_none(segment, photo_file, capsys):
    assert segment(photo_file, "--weights", photo_file) == 2
    assert str(photo_file) in sentence(capsys)


def test_a_device_that_does_not_exist(segment, photo_file, capsys):
    assert segment(photo_file, "--device", "quantum") == 2
    assert sentence(capsys) == "This machine has no device 'quantum'; try --device cpu."


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one here")
def test_a_gpu_that_is_not_there(segment, photo_file, capsys):
    assert segment(photo_file, "--device", "cuda") == 2
    assert sentence(capsys) == "This machine has no device 'cuda'; try --device cpu."


def test_an_unknown_format(segment, photo_file, capsys):
    assert segment(photo_file, "--format", "overlay,gif") == 2
    assert sentence(capsys).startswith("There is no format 'gif'; choose from overlay, ids, coco")


# --- the place of the outputs


def test_an_output_folder_that_cannot_be(segment, photo_file, capsys):
    assert segment(photo_file, "--out", photo_file / "out") == 2
    assert sentence(capsys).startswith(f"Cannot write to the folder {photo_file}/out: Not a directory")


def test_a_full_disk_keeps_earlier_outputs(segment, photo_file, out_dir, tmp_path, monkeypatch, capsys):
    (tmp_path / "later.png").write_bytes(photo_file.read_bytes())
    save = Image.Image.save

    def save_until_full(image: Image.Image, path: Path, **options: object) -> None:
        if (out_dir / "photo_panoptic.json").exists():
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(image, path, **options)

    monkeypatch.setattr(segment_module, "_THREADS", 1)  # otherwise both photos may be written at once
    monkeypatch.setattr(Image.Image, "save", save_until_full)
    assert segment(photo_file, tmp_path / "later.png") == 2
    expected = f"{out_dir}/later_overlay.png; earlier outputs are kept, free some space."
    line = sentence(capsys)
    assert line.startswith("No space left on the device while writing")
    assert line.endswith(expected)
    assert {path.name.split("_")[0].split(".")[0] for path in out_dir.iterdir()} == {"photo"}


# --- failures and interruptions


def crash_with(error: BaseException) -> Callable[..., None]:
    def crash(*arguments: object, **named: object) -> None:
        raise error

    return crash


def test_a_crash_is_a_failed_job(segment, photo_file, monkeypatch, capsys):
    monkeypatch.setattr(cropformer.EntitySegmenter, "segment_batch", crash_with(RuntimeError("no\nluck")))
    assert segment(photo_file) == 1
    assert sentence(capsys) == (
        f"SegmentError: Segmenting {photo_file} failed with RuntimeError: no luck; "
        "run it again with --debug for the traceback."
    )


def test_a_failed_job_outweighs_a_bad_input(segment, photo_file, monkeypatch):
    monkeypatch.setattr(cropformer.EntitySegmenter, "segment_batch", crash_with(RuntimeError("no luck")))
    assert segment(photo_file, photo_file.with_name("missing.png")) == 1
    assert segment(photo_file.with_name("missing.png"), photo_file) == 1


def test_debug_shows_where(segment, photo_file, monkeypatch, capsys):
    monkeypatch.setattr(cropformer.EntitySegmenter, "segment_batch", crash_with(RuntimeError("no luck")))
    assert segment(photo_file, "--debug") == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "RuntimeError: no luck" in shown


@pytest.mark.parametrize("debug", [False, True])
def test_a_warning_is_a_sentence_without_debug(segment, photo_file, debug):
    usual, shown = warnings.formatwarning, []

    def note(*warning: object, **_: object) -> None:
        shown.append(warnings.formatwarning(*warning[:4]))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = note
        assert segment(photo_file, "--max-memory", "100KB", *["--debug"] * debug) == 0
    plain = [line for line in shown if line.startswith("Warning: max_memory is 0 MB, but ")]
    assert len(plain) == (not debug)
    assert any("UserWarning: max_memory" in line for line in shown) == debug
    assert warnings.formatwarning is usual


def test_interruption(segment, photo_file, monkeypatch, capsys):
    monkeypatch.setattr(cropformer.EntitySegmenter, "segment_batch", crash_with(KeyboardInterrupt()))
    assert segment(photo_file) == 130
    assert sentence(capsys) == "Interrupted; the outputs finished so far are kept."


# --- pretrain


def test_pretrain_says_which_setting_is_wrong(capsys):
    assert main(["pretrain", "no.such.key=1"]) == 2
    assert "no.such.key" in sentence(capsys)


def test_a_key_without_a_place_is_an_option_of_the_dataset(capsys):
    assert main(["pretrain", "dataset=fss", "root=/nowhere", "splt=test"]) == 2
    assert "dataset fss has no option splt; its options are split" in sentence(capsys)
