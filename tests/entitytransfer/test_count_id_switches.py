"""The tool that counts id switches: by hand on four frames, from files, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from entitytransfer.predictions import write_png
from tools.count_id_switches import count_id_switches, main


def frame(*, objects: dict[int, slice], tracks: dict[int, slice]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a 10 x 4 picture, by object and by track."""
    pictures = np.zeros((2, 10, 4), dtype=np.int64)
    for picture, shown in zip(pictures, (objects, tracks)):
        for number, rows in shown.items():
            picture[rows] = number
    return tuple(pictures)


FRAMES = [
    frame(objects={1: slice(0, 4), 2: slice(6, 10)}, tracks={7: slice(0, 4), 8: slice(6, 10)}),
    frame(objects={1: slice(0, 4), 2: slice(6, 10)}, tracks={7: slice(0, 2), 8: slice(6, 9)}),  # 7 covers half: lost
    frame(objects={1: slice(0, 4)}, tracks={9: slice(0, 3), 7: slice(3, 4)}),
    frame(objects={1: slice(0, 4), 2: slice(6, 10)}, tracks={7: slice(0, 4), 8: slice(5, 10)}),
]


def test_switches_are_counted_over_frames_in_which_an_object_is_lost_or_gone():
    first, second = count_id_switches(FRAMES).values()
    assert (first.track_ids, first.switches) == ([7, 9, 7], 2)
    assert first.ious == [1, 0.5, 0.75, 1]
    assert (second.track_ids, second.switches) == ([8, 8, 8], 0)
    assert second.ious == [1, 0.75, 0.8]


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    found = tmp_path / "annotation", tmp_path / "clip_ids"
    for folder, pictures in zip(found, zip(*FRAMES)):
        folder.mkdir()
        for number, picture in enumerate(pictures):
            write_png(folder / f"{number:05d}.png", picture.astype(np.uint16))
    return found


def test_a_line_for_each_object(folders, capsys):
    assert main([str(folder) for folder in folders]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "object 1: 2 id switches, found in 3 of 4 frames, mean IoU 0.812",
        "object 2: 0 id switches, found in 3 of 3 frames, mean IoU 0.850",
    ]


def test_other_frames_are_refused(folders, tmp_path, capsys):
    annotation, ids = folders
    (ids / "00003.png").unlink()
    assert main([str(annotation), str(ids)]) == 2
    assert "has 4 PNGs and" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere"), str(tmp_path)]) == 2
    assert "has 0 PNGs" in capsys.readouterr().err
    write_png(ids / "00003.png", np.zeros((4, 4), dtype=np.uint16))
    assert main([str(annotation), str(ids)]) == 2
    assert "differ in size; segment the clip that was annotated" in capsys.readouterr().err
