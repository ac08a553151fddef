"""CAMO as published: photos with camouflaged objects, in two versions.

Below the root:

    the first CAMO (2019), also below CAMO-V.1.0-CVIU2019:  Images/{Train,Test}/*.jpg and GT/*.png, one mask each
    CAMO++ (2021), also below CAMO_pp:  {train,test}.json in COCO's format, images in train/ and test/, in
        Images/{Train,Test}/ or beside the files
"""

from collections.abc import Iterator
from pathlib import Path

from cropformer import InputError
from entitytransfer.adapter import Adapter, SampleSet
from entitytransfer.checks.images import Photos, check_published
from entitytransfer.checks.instances import check_instances
from entitytransfer.checks.masks import check_masks
from entitytransfer.classes import ENTITY
from entitytransfer.doctor import Finding
from entitytransfer.readers.coco_json import read_coco
from entitytransfer.readers.image_places import ImagePlaces
from entitytransfer.readers.mask_file import open_masks
from entitytransfer.readers.mask_folder import find_camo, inner_folder
from entitytransfer.scorecard import check_choice
from entitytransfer.tasks import task_adapter

IMAGES = {"camo": {"train": 1000, "test": 250}, "camo++": {"train": 3500, "test": 2000}}

_DOWNLOAD = (
    "Ask for CAMO or CAMO++ with the form on the page of the set (see there for its terms), and unpack the whole "
    "archive here."
)


def read(root: Path | str, *, split: str = "test", version: str | None = None) -> SampleSet:
    """Open a split; regions that are not camouflaged may be without annotation.

    Args:
        root: the folder of a version, or one that holds it.
        split: "test" or "train".
        version: "camo": one region in an image, which is called by its file's name without ending. "camo++": one
            for each instance, image ids as in the file. None takes CAMO++, that of the paper, if its file is there.

    Raises:
        InputError: there is no such split or version, or a part of it is missing or damaged.
    """
    root = Path(root)
    if _version(root, split=split, version=version) == "camo":
        masks = find_camo(root, split=split)
        return SampleSet(open_masks(masks, exhaustive=False, spare_photos=False), ENTITY)
    return SampleSet(read_coco(_annotations(root, split), _places(root, split).locate), ENTITY)


def adapter() -> Adapter:
    """Zero-shot recall."""
    return task_adapter("recall", read)


def examine(
    root: Path | str, *, full: bool = False, split: str = "test", version: str | None = None
) -> Iterator[Finding]:
    """Say what is missing or broken.

    Args:
        root: as in ``read``.
        full: decode every photo instead of reading the head of its file.
        split: as in ``read``.
        version: as in ``read``.

    Raises:
        InputError: there is no such split or version.
    """
    _check_choices(split, version)
    root, photos = Path(root), Photos(full=full)
    try:
        chosen = _version(root, split=split, version=version)
        published = IMAGES[chosen][split]
        if chosen == "camo":
            yield from _examine_masks(root, photos, split=split, published=published)
            return
    except InputError as error:
        yield Finding("missing", str(error), root, _DOWNLOAD)
        return
    path, locate = _annotations(root, split), _places(root, split).locate
    yield from check_instances(path, locate, photos, name=f"CAMO++ {split}", download=_DOWNLOAD, images=published)


def _examine_masks(root: Path, photos: Photos, *, split: str, published: int) -> Iterator[Finding]:
    masks = find_camo(root, split=split)
    folder = masks[0].photo_folder
    if not folder.is_dir():
        yield Finding("missing", f"no folder Images/{folder.name}", folder.parents[1], _DOWNLOAD)
        return
    yield from check_published(len(masks), published, "mask", name=f"CAMO {split}", where=folder)
    yield from check_masks(masks, photos, source=folder, name=f"CAMO {split}", download=_DOWNLOAD)


def _version(root: Path, *, split: str, version: str | None) -> str:
    """The version to read, which is there."""
    _check_choices(split, version)
    expected = {"camo++": _annotations(root, split), "camo": inner_folder(root, "CAMO-V.1.0-CVIU2019") / "GT"}
    found = [name for name, path in expected.items() if path.exists() and version in (None, name)]
    if not found:
        looked_for = " nor ".join(path.name for name, path in expected.items() if version in (None, name))
        raise InputError(f"{root} holds no {version or 'CAMO'}: there is no {looked_for} in it; check the path.")
    return found[0]


def _check_choices(split: str, version: str | None) -> None:
    check_choice("split", split, choices=("test", "train"))
    if version is not None:
        check_choice("version", version, choices=tuple(IMAGES))


def _annotations(root: Path, split: str) -> Path:
    return inner_folder(root, "CAMO_pp") / f"{split}.json"


def _places(root: Path, split: str) -> ImagePlaces:
    home = inner_folder(root, "CAMO_pp")
    return ImagePlaces((home / split, home / "Images" / split.capitalize(), home))
