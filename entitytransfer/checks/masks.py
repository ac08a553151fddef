"""Checks of mask PNGs that lie beside photos."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cropformer import InputError
from entitytransfer.checks.images import ListedImage, Photos, check_images, count, examples, in_parallel
from entitytransfer.checks.instances import check_counts
from entitytransfer.doctor import Finding
from entitytransfer.readers.label_png import FOREGROUND, read_pixels
from entitytransfer.readers.mask_file import MaskFile, match_photos

_DOWNLOAD_MASKS = "Download the masks again."


@dataclass(frozen=True)
class _Regions:
    """What a mask shows: how many regions, the largest of their numbers, and the brightest pixel if there is none."""

    count: int
    largest: int
    brightest: int


def check_masks(
    masks: Sequence[MaskFile], photos: Photos, *, source: Path, name: str, download: str, largest: int | None = None
) -> Iterator[Finding]:
    """Everything about some masks and their photos; the last finding counts them.

    Args:
        masks: all of a set or a split.
        photos: sizes of the image files.
        source: the folder that they are in.
        name: what they are, for the counts.
        download: what to do about missing files.
        largest: number that a region may have at most; None for binary masks.
    """
    yield from _check_pairs(masks, photos, source=source, name=name, download=download)
    found = in_parallel(partial(_examine, is_binary=largest is None), masks, name="masks")
    broken = {mask.png_path: result for mask, result in zip(masks, found) if isinstance(result, InputError)}
    if broken:
        what = f"{count(len(broken), 'broken mask')}: {examples(broken)}; {next(iter(broken.values()))}"
        yield Finding("broken", what, next(iter(broken)).parent, _DOWNLOAD_MASKS)
    sound = [(mask, result) for mask, result in zip(masks, found) if isinstance(result, _Regions)]
    yield from _check_brightness({mask.png_path: result.brightest for mask, result in sound})
    if largest is not None:
        yield from _check_labels({mask.png_path: result.largest for mask, result in sound}, largest=largest)
    yield from check_counts({mask.image_id: result.count for mask, result in sound}, [1], source=source, name=name)


def _check_pairs(
    masks: Sequence[MaskFile], photos: Photos, *, source: Path, name: str, download: str
) -> Iterator[Finding]:
    matched = match_photos(masks)
    if matched.without_photo:
        lacking = [mask.png_path for mask in matched.without_photo]
        what = f"{count(len(lacking), 'mask')} of {len(masks):,} in {name} without photo: {examples(lacking)}"
        yield Finding("missing", what, matched.without_photo[0].photo_folder, download)
    if matched.without_mask:
        what = f"{count(len(matched.without_mask), 'photo')} of {name} without mask: {examples(matched.without_mask)}"
        yield Finding("missing", what, matched.without_mask[0].parent, download)
    listed = []
    for mask, photo in matched.pairs:
        try:
            listed.append(ListedImage(mask.image_id, photo, mask.size_hw))
        except InputError:  # said when the mask is examined
            continue
    yield from check_images(listed, photos, source=source, download=download)


def _check_brightness(brightest: Mapping[Path, int]) -> Iterator[Finding]:
    """No mask is all background only because its foreground is dark."""
    dark = [path for path, value in brightest.items() if value > 0]
    if dark:
        what = f"{count(len(dark), 'mask')} without a pixel above {FOREGROUND}: {examples(dark)}; "
        what += f"the brightest pixel of {dark[0].name} has {brightest[dark[0]]}"
        yield Finding("broken", what, dark[0].parent, "Store foreground as 255, or put back the original masks.")


def _check_labels(found: Mapping[Path, int], *, largest: int) -> Iterator[Finding]:
    """No label map holds a number that is no label."""
    over = [path for path, value in found.items() if value > largest]
    if over:
        what = f"{count(len(over), 'label map')} with labels above {largest}: {examples(over)}; "
        what += f"{over[0].name} holds {found[over[0]]}"
        yield Finding("broken", what, over[0].parent, "Put back the original label PNGs.")


def _examine(mask: MaskFile, *, is_binary: bool) -> _Regions | InputError:
    try:
        numbers = mask.numbers()
        is_dark = is_binary and not numbers.size
        brightest = int(read_pixels(mask.png_path)[0].max()) if is_dark else 0
        return _Regions(numbers.size, int(numbers.max(initial=0)), brightest)
    except InputError as error:
        return error
