"""Where the files of VIPSeg lie: the raw ones of its archive, and those that the official scripts make of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cropformer import InputError
from entitytransfer.readers.image_places import first_existing
from entitytransfer.readers.label_png import list_pngs
from entitytransfer.readers.mask_folder import inner_folder

HOME, PREPARED = "VIPSeg", "VIPSeg_720P"
ANNOTATED = ("train", "val")
PUBLISHED_VIDEOS = {"train": 2_806, "val": 343, "test": 387}
GET = (
    "Download VIPSeg from its page, which says under which terms, and unpack imgs, panomasks, train.txt, val.txt, "
    "test.txt and panoVIPSeg_categories.json in one folder."
)
_CATEGORIES = "panoVIPSeg_categories.json"
_RGB = "panomasksRGB"


@dataclass(frozen=True)
class RawVideo:
    """A video that a list names, and what there is of it.

    Attributes:
        name: of its folders.
        images: names of its frames without ending, in order.
        maps: names of its maps without ending, in order; none in test.
    """

    name: str
    images: tuple[str, ...]
    maps: tuple[str, ...]


@dataclass(frozen=True)
class VipsegFiles:
    """All files, whether they exist or not.

    Attributes:
        home: the folder of the raw ones.
        prepared: the folder of those that are 720 pixels high.
    """

    home: Path
    prepared: Path

    @property
    def categories(self) -> Path:
        """The list of classes, which official copies have in both folders."""
        return first_existing([self.home / _CATEGORIES, self.prepared / _CATEGORIES])

    @property
    def prepared_images(self) -> Path:
        """The folder of the images that belong to the prepared maps; the raw one where none were made smaller."""
        return first_existing([self.prepared / "images", self.home / "imgs"])

    @property
    def prepared_maps(self) -> Path:
        """The folder of the maps with RGB ids."""
        return self.prepared / _RGB

    def list_file(self, split: str) -> Path:
        """The text file that names the videos of a split."""
        return self.home / f"{split}.txt"

    def json(self, split: str | None = None) -> Path:
        """The prepared file of a split, or that of all videos with annotations."""
        return self.prepared / (f"panoptic_gt_VIPSeg_{split}.json" if split else "panoptic_gt_VIPSeg.json")

    def images_of(self, video: RawVideo) -> tuple[Path, ...]:
        """The raw frames of a video."""
        return tuple(self.home / "imgs" / video.name / f"{stem}.jpg" for stem in video.images)

    def maps_of(self, video: RawVideo) -> tuple[Path, ...]:
        """The raw maps of a video."""
        return tuple(self.home / "panomasks" / video.name / f"{stem}.png" for stem in video.maps)

    def videos(self, split: str) -> list[RawVideo]:
        """The videos that a list names, by name, with what there is of each; the last line needs no end of line.

        Raises:
            InputError: the list cannot be read, or there are two maps for one frame.
        """
        try:
            lines = self.list_file(split).read_text(encoding="utf-8").split()
        except (OSError, ValueError) as error:
            raise InputError(f"Cannot read the list of videos {self.list_file(split)} ({error}). {GET}") from error
        return [self._video(name, with_maps=split in ANNOTATED) for name in sorted(set(lines))]

    def complete_videos(self, split: str) -> list[RawVideo]:
        """The same, with frames and, but in test, a map for each.

        Raises:
            InputError: the list cannot be read, or something is missing.
        """
        videos = self.videos(split)
        _check(videos, [one for one in videos if not one.images], f"no frame in {self.home / 'imgs'}")
        if split in ANNOTATED:
            odd = [one for one in videos if one.images != one.maps]
            _check(videos, odd, f"frames and maps in {self.home} that do not belong together")
        return videos

    def _video(self, name: str, *, with_maps: bool) -> RawVideo:
        images = sorted(path.stem for path in (self.home / "imgs" / name).glob("[!.]*.jpg"))
        maps = list_pngs(self.home / "panomasks" / name) if with_maps else ()
        return RawVideo(name, tuple(images), tuple(maps))


def locate_files(root: Path | str) -> VipsegFiles:
    """Where the files should be below the folder that holds ``VIPSeg``, below that one, or in ``VIPSeg_720P``."""
    root = Path(root)
    home = inner_folder(root, HOME)
    if (root / _RGB).is_dir():
        return VipsegFiles(home, root)
    return VipsegFiles(home, first_existing([home / PREPARED, root / PREPARED]))


def _check(videos: Sequence[RawVideo], odd: Sequence[RawVideo], what: str) -> None:
    if odd:
        raise InputError(f"{len(odd):,} of {len(videos):,} videos, such as {odd[0].name}, have {what}. {GET}")
