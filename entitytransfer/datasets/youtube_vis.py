"""YouTube-VIS 2019, 2021 or 2022 as published: clips of 6 frames per second, tracks of 40 categories.

Below the root, or below ``ytvis_VERSION`` in it:

    train.json or train/instances.json, and the same of valid and test
    {train,valid,test}/JPEGImages/VIDEO/*.jpg

The annotations of valid and test are not public: a server scores them, so there is no local AP of "val", and none
should be reported under that name. To score here, train on ``train_rest`` and score ``holdout``: the tenth of train
whose videos' names have a SHA-256 of which the first 32 bits are a multiple of 10. The 2019 videos that 2021 has as
well are on the same side of that line in both.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from cropformer import InputError
from entitytransfer.adapter import Adapter, SampleSet
from entitytransfer.checks.clips import check_clips
from entitytransfer.checks.images import Photos
from entitytransfer.classes import ENTITY
from entitytransfer.doctor import Finding
from entitytransfer.readers.image_places import first_existing
from entitytransfer.readers.mask_folder import inner_folder
from entitytransfer.readers.ytvis_clips import read_clip_classes, read_clips
from entitytransfer.scorecard import check_choice
from entitytransfer.tasks import clip_task_adapter

TASKS = ("instance", "entity")
PARTS = {"train_rest": False, "holdout": True}  # of train; whether their clips are held out
PUBLISHED_VIDEOS = {
    "2019": {"train": 2_238, "valid": 302, "test": 343},
    "2021": {"train": 2_985, "valid": 421, "test": 453},
    "2022": {"train": 2_985, "valid": 492, "test": None},
}
NUM_CLASSES = 40
TOP_K = 10  # results for a clip, as all published numbers have

_ONE_OF = 10
_HASH_DIGITS = 8
_GET = (
    "Download it from the page of YouTube-VIS after signing up (annotations CC BY 4.0, videos for research that is not "
    "commercial) and unpack JSON and frames of each split in one folder."
)


def adapter(*, task: str = "instance") -> Adapter:
    """From disk to metric: "instance" (AP of tracks, 40 categories) or "entity" (all categories are one).

    Raises:
        InputError: there is no such task.
    """
    check_choice("task", task, choices=TASKS)
    return clip_task_adapter(task, read, top_k=TOP_K)


def read(root: Path | str, *, version: str = "2019", split: str = "train", task: str = "instance") -> SampleSet:
    """Open a split; its samples are clips, by ascending id.

    Args:
        root: the folder that holds ``ytvis_VERSION``, or that folder itself.
        version: "2019", "2021" or "2022".
        split: "train", its parts "train_rest" and "holdout", or "valid" or "test", whose clips have no annotation
            unless the file has some.
        task: "instance": labels in the order of the ids of the categories. "entity": label 0; objects of other
            categories are then unknown.

    Raises:
        InputError: there is no such choice, or a file or folder is missing or damaged.
    """
    check_choice("task", task, choices=TASKS)
    path, frames = _locate(Path(root), version=str(version), split=split)
    if not path.is_file():
        raise InputError(f"{root} holds no YouTube-VIS {version}: there is no {path.name} of {split} in it. {_GET}")
    if not frames.is_dir():
        raise InputError(f"There is no folder {frames}. {_GET}")
    classes = ENTITY if task == "entity" else read_clip_classes(path)
    label_of = None if classes is ENTITY else classes.labels()
    clips = read_clips(path, frames, exhaustive=task == "instance", label_of=label_of)
    if split in ("train", *PARTS) and not clips.entity_counts.any():
        raise InputError(f"{path} has no annotations, but those of train are public. {_GET}")
    if split in PARTS:
        clips = clips.select([is_held_out(Path(name).parts[0]) == PARTS[split] for name in clips.first_frames])
        if not clips:
            raise InputError(f"No video of {path} is in {split}, a tenth of train or the rest of it; take split=train.")
    return SampleSet(clips, classes)


def is_held_out(video: str) -> bool:
    """Whether a video of train, given by the name of its folder, belongs to ``holdout``."""
    return int(hashlib.sha256(video.encode()).hexdigest()[:_HASH_DIGITS], 16) % _ONE_OF == 0


def examine(
    root: Path | str, *, full: bool = False, version: str = "2019", split: str | None = None, task: str = "instance"
) -> Iterator[Finding]:
    """Say what is missing or broken; the choices are those of ``read``.

    Args:
        root: the dataset's folder.
        full: decode every frame instead of reading the head of its file.
        version: the version.
        split: None examines train and valid, and test if it is there; for a part of train, train.
        task: "instance" expects 40 categories.

    Raises:
        InputError: there is no such choice.
    """
    check_choice("task", task, choices=TASKS)
    photos = Photos(full=full)
    for name in ("train", "valid", "test") if split is None else (split,):
        path, frames = _locate(Path(root), version=str(version), split=name)
        if not path.is_file():
            if split is not None or name != "test":
                yield Finding("missing", f"no {path.name} of {name}", path.parent, _GET)
            continue
        yield from check_clips(
            path,
            frames,
            photos,
            name=f"YouTube-VIS {version} {name}",
            download=_GET,
            classes=NUM_CLASSES if task == "instance" else None,
            videos=PUBLISHED_VIDEOS[str(version)]["train" if name in PARTS else name],
            may_lack_annotations=name in ("valid", "test"),
        )


def _locate(root: Path, *, version: str, split: str) -> tuple[Path, Path]:
    """The annotation file of a split and the folder of its frames, whether they exist or not."""
    check_choice("version", version, choices=tuple(PUBLISHED_VIDEOS))
    check_choice("split", split, choices=(*PUBLISHED_VIDEOS[version], *PARTS))
    home = inner_folder(root, f"ytvis_{version}")
    name = "train" if split in PARTS else split
    return first_existing([home / f"{name}.json", home / name / "instances.json"]), home / name / "JPEGImages"
