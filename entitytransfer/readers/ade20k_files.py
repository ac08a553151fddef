"""Where the files of ADE20K lie: those of its two archives, and those that the official scripts make of them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from cropformer import InputError
from entitytransfer.readers.label_png import list_pngs

HOME = "ADEChallengeData2016"
PUBLISHED_IMAGES = {"training": 20_210, "validation": 2_000}
_FOLDERS = [
    f"{kind}/{split}" for kind in ("images", "annotations") for split in PUBLISHED_IMAGES
]  # one is a sign of it
_SHORT = {"training": "train", "validation": "val"}  # how the files that are made spell the splits

GET_SCENES = (
    f"Download {HOME}.zip of ADE20K (MIT CSAIL; for research, see its terms of use) and unpack the whole archive."
)
GET_INSTANCES = (
    "Download annotations_instance.tar of ADE20K, its second archive (MIT CSAIL; for research, see its terms of use), "
    f"and unpack it in {HOME}."
)


@dataclass(frozen=True)
class AdeFiles:
    """The files of one split, whether they exist or not.

    Attributes:
        home: the folder of all.
        split: "training" or "validation".
    """

    home: Path
    split: str

    @property
    def images(self) -> Path:
        """The folder of the photos."""
        return self.home / "images" / self.split

    @property
    def semantic(self) -> Path:
        """The folder of the raw semantic maps."""
        return self.home / "annotations" / self.split

    @property
    def instances(self) -> Path:
        """The folder of the raw instance maps."""
        return self.home / "annotations_instance" / self.split

    @property
    def prepared_semantic(self) -> Path:
        """The folder of the semantic maps whose labels run from 0."""
        return self.home / "annotations_detectron2" / self.split

    @property
    def panoptic_maps(self) -> Path:
        """The folder of the panoptic PNGs."""
        return self.json("panoptic").with_suffix("")

    def json(self, task: str) -> Path:
        """The prepared file of the panoptic, the instance or the entity task."""
        return self.home / f"ade20k_{task}_{_SHORT[self.split]}.json"

    def image(self, stem: str) -> Path:
        """A photo."""
        return self.images / f"{stem}.jpg"

    def is_prepared(self, task: str) -> bool:
        """Whether what the official scripts make for a task is all there; of the entities no script makes any."""
        if task == "semantic":
            made = list_pngs(self.prepared_semantic).keys()
            return bool(made) and made >= list_pngs(self.semantic).keys()
        return self.json(task).is_file() and (task != "panoptic" or self.panoptic_maps.is_dir())

    def raw_stems(self, *, with_instances: bool) -> list[str]:
        """The names of the photos without ending, in order; each has its maps.

        Raises:
            InputError: there are none, or a photo or a map is missing.
        """
        folders = [(self.images, ".jpg", GET_SCENES), (self.semantic, ".png", GET_SCENES)]
        if with_instances:
            folders.append((self.instances, ".png", GET_INSTANCES))
        everything = set().union(*(_stems(*place) for place in folders))
        for place in folders:
            _check_complete(*place, needed=everything)
        return sorted(everything)

    def check_photos(self, stems: Iterable[str]) -> None:
        """Raise InputError where photos are missing of which prepared files speak."""
        _check_complete(self.images, ".jpg", GET_SCENES, needed=set(stems))


def locate_files(root: Path | str, *, split: str) -> AdeFiles:
    """Where the files of a split should be.

    Args:
        root: the folder that holds ``ADEChallengeData2016``, or that folder itself.
        split: "training" or "validation", in short "train" or "val".

    Raises:
        InputError: there is no such split, or the root holds no ADE20K.
    """
    names = {short: split for split, short in _SHORT.items()}
    split = names.get(split, split)
    if split not in PUBLISHED_IMAGES:
        raise InputError(f"ADE20K has no split={split} with annotations; choose training or validation.")
    return AdeFiles(find_home(root), split)


def find_home(root: Path | str) -> Path:
    """The folder of ``images`` and ``annotations``: ``ADEChallengeData2016`` in the root, or the root itself.

    Raises:
        InputError: neither is one.
    """
    for home in (Path(root) / HOME, Path(root)):
        if any(home.glob("ade20k_*.json")) or any((home / folder).is_dir() for folder in _FOLDERS):
            return home
    raise InputError(f"{root} holds no ADE20K: there is neither {HOME}/ nor annotations/ in it. {GET_SCENES}")


def _stems(folder: Path, suffix: str, remedy: str) -> set[str]:
    found = {path.stem for path in folder.glob(f"[!.]*{suffix}")}
    if not found:
        raise InputError(f"There is no *{suffix} in {folder}. {remedy}")
    return found


def _check_complete(folder: Path, suffix: str, remedy: str, *, needed: Collection[str]) -> None:
    absent = sorted(set(needed) - _stems(folder, suffix, remedy))
    if absent:
        count = f"{len(absent):,} of {len(needed):,} files"
        raise InputError(f"{folder} lacks {count}, such as {absent[0]}{suffix}. {remedy}")
