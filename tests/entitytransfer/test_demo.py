"""The demo: its files, its page, and that the page needs nothing but itself."""

import base64
import json
import re
from pathlib import Path

import pytest

from entitytransfer import demo as demo_module
from entitytransfer.cli import main
from entitytransfer.demo import CLIP, CREDITS, PHOTO
from entitytransfer.jobs.inputs import Job
from entitytransfer.readers.video import VideoReader


@pytest.fixture
def page(tmp_path: Path, tiny_weights: Path, clip_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page of a demo with a shorter clip."""
    monkeypatch.setattr(demo_module, "CLIP", Job(clip_file, "crossing_cars", is_clip=True))
    assert main(["demo", "--out", str(tmp_path / "demo"), "--weights", str(tiny_weights), "--device", "cpu"]) == 0
    return tmp_path / "demo" / "index.html"


def test_results_lie_beside_the_page(capsys: pytest.CaptureFixture[str], page: Path):
    assert f"Open {page} in a browser." in capsys.readouterr().out
    for name in ("riders_overlay.png", "crossing_cars_overlay.mp4"):
        assert (page.parent / name).stat().st_size > 1000
    assert json.loads((page.parent / "riders.json").read_text())
    assert json.loads((page.parent / "crossing_cars_ytvis.json").read_text())


def test_the_page_holds_inputs_and_overlays(page: Path):
    embedded = re.findall(r'src="data:(\w+/\w+);base64,([^"]+)"', page.read_text())
    contents = [base64.b64decode(content) for _, content in embedded]
    assert [media_type for media_type, _ in embedded] == ["image/jpeg", "image/png", "video/mp4", "video/mp4"]
    assert contents[0] == PHOTO.path.read_bytes()
    assert contents[1] == (page.parent / "riders_overlay.png").read_bytes()
    assert contents[3] == (page.parent / "crossing_cars_overlay.mp4").read_bytes()


def test_the_page_needs_no_network(page: Path):
    text = re.sub(r'"data:[^"]+"', '""', page.read_text())
    assert not re.search(r"https?:|src=\"[^\"]|@import|url\(|\$", text)


def test_the_page_tells_the_numbers(page: Path):
    numbers = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page.read_text()))
    entities = json.loads((page.parent / "riders.json").read_text())
    tracks = json.loads((page.parent / "crossing_cars_ytvis.json").read_text())
    assert numbers["weights"] == "tiny"
    assert numbers["entities"] == str(len(entities))
    assert numbers["tracks"] == str(len(tracks))
    assert numbers["frames"] == "6"
    assert CREDITS in page.read_text()


def test_the_bundled_clip_is_small_and_whole():
    assert CLIP.path.stat().st_size < 400_000
    with VideoReader(CLIP.path) as clip:
        assert sum(1 for _ in clip) == clip.expected_frames == 37
        assert clip.warning is None


def test_every_bundled_medium_is_attributed():
    attribution = (PHOTO.path.parent / "ATTRIBUTION.md").read_text()
    media = [path for path in PHOTO.path.parent.iterdir() if path.suffix in {".jpg", ".png", ".mp4"}]
    assert len(media) == 2
    assert all(f"`{path.name}`" in attribution for path in media)
