"""What paths stand for, and that no two inputs ever share an output."""

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from entitytransfer.jobs.inputs import Job, find_jobs
from entitytransfer.writers.formats import FORMATS

from .video_clips import grey_frame, write_clip


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names_of(paths: list[str | Path], out_dir: Path) -> list[str]:
    jobs, errors = find_jobs(paths, out_dir=out_dir)
    assert errors == []
    return [job.name for job in jobs]


@pytest.fixture
def out_dir(tmp_path: Path) -> Path:
    return tmp_path / "results"


def test_a_file_is_itself_whatever_its_suffix(tmp_path: Path, out_dir: Path):
    touch(tmp_path, "a.jpg", "b.MP4", "c.strange")
    jobs, _ = find_jobs([tmp_path / name for name in ("c.strange", "b.MP4", "a.jpg")], out_dir=out_dir)
    assert [(job.name, job.is_clip) for job in jobs] == [("c", False), ("b", True), ("a", False)]


def test_a_folder_is_searched_to_the_bottom_and_mirrored(tmp_path: Path, out_dir: Path):
    touch(tmp_path, "in/b.JPG", "in/a.png", "in/deep/er/c.webp", "in/clip.mkv", "in/notes.txt")
    touch(tmp_path, "in/.hidden.png", "in/.cache/d.png")
    assert names_of([tmp_path / "in"], out_dir) == ["a", "b", "clip", "deep/er/c"]


def test_a_glob_is_what_a_shell_would_have_typed(tmp_path: Path, out_dir: Path):
    touch(tmp_path, "x1.png", "x2.png", "y.png", "sub/x3.png")
    assert names_of([f"{tmp_path}/x*.png"], out_dir) == ["x1", "x2"]
    assert names_of([f"{tmp_path}/**/x*.png"], out_dir) == ["x3", "x1", "x2"]


def test_a_name_with_brackets_is_no_glob_if_it_exists(tmp_path: Path, out_dir: Path):
    touch(tmp_path, "a[1].png", "a1.png")
    assert names_of([tmp_path / "a[1].png"], out_dir) == ["a[1]"]


def test_the_same_file_twice_is_one_job(tmp_path: Path, out_dir: Path):
    touch(tmp_path, "in/a.png")
    assert names_of([tmp_path / "in" / "a.png", tmp_path / "in", f"{tmp_path}/in/../in/*.png"], out_dir) == ["a"]


def test_equal_names_are_numbered(tmp_path: Path, out_dir: Path):
    touch(tmp_path, "one/a.png", "two/a.png", "two/a.jpg", "three/A.png", "three/a-2.png")
    paths = [tmp_path / name for name in ("one/a.png", "two/a.png", "two/a.jpg", "three/A.png", "three/a-2.png")]
    assert names_of(paths, out_dir) == ["a", "a-2", "a-3", "A-4", "a-2-2"]


def test_a_name_that_looks_like_an_output_is_numbered(tmp_path: Path, out_dir: Path):
    touch(tmp_path, "a.png", "a_panoptic.png")
    jobs, _ = find_jobs([tmp_path / "a.png", tmp_path / "a_panoptic.png"], out_dir=out_dir)
    outputs = [name for job in jobs for name in job.output_names()]
    assert len(outputs) == len(set(outputs)) == 10


def test_names_of_manifests_are_taken(tmp_path: Path, out_dir: Path):
    touch(tmp_path, "Manifest.png", "manifest-1-of-2.png", "manifest-of.png", "sub/manifest.png")
    names = ["Manifest-2", "manifest-1-of-2-2", "manifest-of", "sub/manifest"]
    assert names_of([tmp_path], out_dir) == names


def test_the_output_folder_is_no_input(tmp_path: Path):
    touch(tmp_path, "in/a.png", "in/out/a_overlay.png", "in/outer/b.png")
    assert names_of([tmp_path / "in"], tmp_path / "in" / "out") == ["a", "outer/b"]
    jobs, (error,) = find_jobs([tmp_path / "in"], out_dir=tmp_path / "in" / "outer" / "..")
    assert jobs == []
    assert str(error).endswith("in is both input and output; choose another --out, so as not to mix them.")


def test_paths_without_inputs_leave_the_others_alone(tmp_path: Path, out_dir: Path):
    touch(tmp_path, "a.png", "texts/notes.txt")
    paths = [tmp_path / "gone.png", tmp_path / "texts", f"{tmp_path}/z*.png", tmp_path / "a.png"]
    jobs, errors = find_jobs(paths, out_dir=out_dir)
    assert [job.name for job in jobs] == ["a"]
    assert [str(error) for error in errors] == [
        f"There is no file or folder {tmp_path}/gone.png; check the path.",
        f"The folder {tmp_path}/texts holds no image and no video; give a folder that does.",
        f"There is no file or folder {tmp_path}/z*.png; check the path.",
    ]


def test_formats_of_photos_and_clips():
    photo, clip = Job(Path("a.png"), "a", is_clip=False), Job(Path("sub/b.mp4"), "sub/b", is_clip=True)
    assert photo.output_names({"coco", "ytvis"}) == ["a.json"]
    assert clip.output_names(frozenset(FORMATS)) == [
        "sub/b_overlay.mp4",
        "sub/b_ids",
        "sub/b_ytvis.json",
        "sub/b_vipseg",
    ]
    assert clip.output_names({"coco"}) == []


def test_a_pipe_and_numbered_frames_are_clips(tmp_path: Path, out_dir: Path):
    touch(tmp_path, "walk/001.png", "walk/002.png", "100%d.png")
    paths = ["-", tmp_path / "walk" / "%03d.png", tmp_path / "walk" / "left_%d.png", tmp_path / "100%d.png", "-"]
    jobs, errors = find_jobs(paths, out_dir=out_dir)
    assert errors == []
    assert [(job.name, job.is_clip) for job in jobs] == [
        ("stdin", True),
        ("walk", True),
        ("left", True),
        ("100%d", False),
    ]


# --- lists, frames, and what a name does not tell


def test_a_list_stands_for_its_lines(tmp_path: Path, out_dir: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.mp4", "in/b.mp4", "in/c.png", "walk/1.png")
    lines = ["# clips", "", "  a.mp4 ", "gone.mp4", "in", "walk/%d.png", "#a.mp4", "@clips.txt"]
    (tmp_path / "clips.txt").write_text("\n".join(lines))
    jobs, errors = find_jobs(["@clips.txt", "a.mp4"], out_dir=out_dir)
    assert [job.name for job in jobs] == ["a", "b", "c", "walk"]
    assert [str(error) for error in errors] == [
        "clips.txt, line 4: There is no file or folder gone.mp4; check the path.",
        "clips.txt, line 8: There is no file or folder @clips.txt; check the path.",
    ]


def test_a_list_that_lists_nothing_stops_no_other_path(tmp_path: Path, out_dir: Path):
    touch(tmp_path, "a.mp4", "@b.mp4")
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xd8\xff")
    lists = [f"@{tmp_path}/{name}.txt" for name in ("gone", "empty", "binary")]
    jobs, errors = find_jobs([*lists, tmp_path / "a.mp4", tmp_path / "@b.mp4"], out_dir=out_dir)
    assert [job.name for job in jobs] == ["a", "@b"]
    assert [str(error).split(";")[0] for error in errors] == [
        f"The list {tmp_path}/gone.txt cannot be read (No such file or directory)",
        f"{tmp_path}/empty.txt lists nothing",
        f"{tmp_path}/binary.txt is no text in UTF-8",
    ]


def test_folders_of_frames_are_clips(tmp_path: Path, out_dir: Path):
    touch(tmp_path, "in/1.png", "in/2.png", "in/walk/1.jpg", "in/walk/notes.txt", "in/deep/run/1.png", "in/ride.mp4")
    jobs, errors = find_jobs([tmp_path / "in"], out_dir=out_dir, frames=True)
    assert errors == []
    assert [(job.path.relative_to(tmp_path).as_posix(), job.name) for job in jobs] == [
        ("in", "in"),
        ("in/deep/run", "deep/run"),
        ("in/ride.mp4", "ride"),
        ("in/walk", "walk"),
    ]
    assert all(job.is_clip for job in jobs)


def test_links_lead_into_each_folder_once(tmp_path: Path, out_dir: Path):
    touch(tmp_path, "in/a.png", "in/deep/b.png")
    for name in ("again", "deep/up"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "in", target_is_directory=True)
    assert names_of([tmp_path / "in"], out_dir) == ["a", "deep/b"]


def test_a_folder_that_cannot_be_read_stops_no_other(tmp_path: Path, out_dir: Path, monkeypatch):
    touch(tmp_path, "in/a.png", "in/closed/b.png")
    scan = os.scandir

    def refuse(folder: str) -> object:
        if Path(folder).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    sentence = f"The folder {tmp_path}/in/closed cannot be read (Permission denied); check its permissions."
    jobs, errors = find_jobs([tmp_path / "in"], out_dir=out_dir)
    assert ([job.name for job in jobs], [str(error) for error in errors]) == (["a"], [sentence])
    jobs, errors = find_jobs([tmp_path / "in" / "closed"], out_dir=out_dir)
    assert (jobs, [str(error) for error in errors]) == ([], [sentence])


def test_a_film_is_a_clip_whatever_its_suffix_and_a_picture_or_text_is_none(tmp_path: Path, out_dir: Path):
    film = write_clip(tmp_path / "clip.mp4", 2).read_bytes()
    Image.fromarray(grey_frame(0)).save(tmp_path / "photo.png")
    contents = {
        "film": film,
        "film.dat": film,
        "photo.dat": (tmp_path / "photo.png").read_bytes(),
        "a.txt": b"words\n" * 99,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    jobs, _ = find_jobs([tmp_path / name for name in contents], out_dir=out_dir)
    assert [job.is_clip for job in jobs] == [True, True, False, False]
