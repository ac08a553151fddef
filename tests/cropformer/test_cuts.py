"""Cuts: what is cut out of part of an image, or out of runs, equals what whole images and masks would give."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cropformer import Cut, cut_image, cut_masks, cut_rles, read_reduced, reduced_scale, rle
from cropformer.errors import InputError
from cropformer.resampling import resize_image

PHOTO = Path(__file__).parents[2] / "entitytransfer" / "assets" / "riders.jpg"


@st.composite
def cuts_of_images(draw: st.DrawFn) -> tuple[tuple[int, int], Cut]:
    """An image size, and a view of it."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    box = (x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height)))
    new_height, new_width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    left, top = draw(st.integers(0, new_width - 1)), draw(st.integers(0, new_height - 1))
    window = (left, top, draw(st.integers(left + 1, new_width + 9)), draw(st.integers(top + 1, new_height + 9)))
    return (height, width), Cut(box, (new_height, new_width), draw(st.none() | st.just(window)), draw(st.booleans()))


def published(image: np.ndarray, cut: Cut, method: Image.Resampling) -> np.ndarray:
    """Mirror the image, then crop, then resize, then keep the window, with Pillow on the whole image."""
    (x0, y0, x1, y1), (height, width) = cut.box_xyxy, cut.scaled_hw
    left, top, right, bottom = cut.window_xyxy or (0, 0, width, height)
    right, bottom = min(right, width), min(bottom, height)
    if cut.flip:
        image, x0, x1 = image[:, ::-1], image.shape[1] - x1, image.shape[1] - x0
        left, right = width - right, width - left
    part = Image.fromarray(np.ascontiguousarray(image[y0:y1, x0:x1])).resize((width, height), method)
    return np.asarray(part)[top:bottom, left:right]


def random_pixels(size_hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


@given(cuts_of_images())
def test_pixels_are_those_of_the_published_order(case: tuple[tuple[int, int], Cut]):
    size_hw, cut = case
    image = random_pixels(size_hw)
    view, expected = cut_image(image, cut), published(image, cut, Image.Resampling.BILINEAR)
    assert view.shape == expected.shape == (*cut.size_hw, 3)
    difference = np.abs(view.astype(int) - expected)
    assert difference.max() <= (0 if cut.window_xyxy is None else 3)  # Pillow takes the edges of a part in float32


@given(cuts_of_images())
def test_masks_are_those_of_the_published_order(case: tuple[tuple[int, int], Cut]):
    size_hw, cut = case
    values = random_pixels(size_hw)[..., 0]
    expected = published(values, cut, Image.Resampling.NEAREST)
    assert np.array_equal(cut_masks(values[None], cut)[0], expected)
    masks = np.stack([values < 128, values > 250, np.zeros_like(values, bool), np.ones_like(values, bool)])
    assert np.array_equal(cut_rles([rle.encode(mask) for mask in masks], cut), cut_masks(masks, cut))


@given(cuts_of_images())
def test_what_is_shown_holds_every_pixel_picked(case: tuple[tuple[int, int], Cut]):
    (height, width), cut = case
    rows, columns = cut.picks()
    x0, y0, x1, y1 = cut.shown_xyxy(image_width=width)
    assert (np.diff(rows) >= 0).all()
    assert (np.diff(columns) >= 0).all()
    if cut.flip:
        columns = width - 1 - columns
    assert 0 <= y0 <= rows.min() <= rows.max() < y1 <= height
    assert 0 <= x0 <= columns.min() <= columns.max() < x1 <= width


def test_a_mirrored_crop_is_described_as_it_is_shown():
    cut = Cut((10, 20, 60, 70), (25, 25), flip=True)
    assert cut.shown_xyxy(image_width=100) == (40, 20, 90, 70)
    half = Cut((0, 0, 100, 80), (40, 50), window_xyxy=(0, 10, 25, 60), flip=True)
    assert half.shown_xyxy(image_width=100) == (50, 20, 100, 80)
    assert half.size_hw == (30, 25)


@pytest.mark.parametrize(
    ("scaled_hw", "scale"), [((100, 100), 1), ((51, 50), 1), ((50, 50), 2), ((30, 20), 2), ((25, 25), 4), ((1, 2), 8)]
)
def test_an_image_is_reduced_as_far_as_no_view_needs_more(scaled_hw: tuple[int, int], scale: int):
    assert reduced_scale([Cut((0, 0, 100, 100), scaled_hw), Cut((0, 0, 100, 100), (5, 5))]) == scale


def test_a_small_crop_keeps_the_image_from_being_reduced():
    whole, crop = Cut((0, 0, 400, 400), (100, 100)), Cut((0, 0, 150, 150), (100, 100))
    assert (reduced_scale([whole]), reduced_scale([whole, crop])) == (4, 1)


# --- JPEGs decoded at reduced scale


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled photo, made larger, with sides that no scale divides."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    with Image.open(PHOTO) as image:
        image.resize((1365, 913), Image.Resampling.BICUBIC).save(path, quality=95)
    return path


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("flip", [False, True])
def test_reduced_decoding_changes_views_a_little(photo: Path, scale: int, flip: bool):
    """The departure from the published pipeline: one or two levels in the mean, and nothing is shifted."""
    cut = Cut((101, 57, 1303, 898), (841 // scale - 3, 1202 // scale - 5), flip=flip)
    image, whole = read_reduced(photo, scale=reduced_scale([cut])), read_reduced(photo, scale=1).pixels
    assert (image.scale, image.size_hw) == (scale, (913, 1365))
    assert image.pixels.shape == (-(-913 // scale), -(-1365 // scale), 3)
    view, exact = cut_image(image.pixels, cut, scale=scale).astype(int), cut_image(whole, cut).astype(int)
    assert 0 < np.abs(view - exact).mean() < 2
    shifted = [np.abs(view - np.roll(exact, step, axis=axis)).mean() for step in (-1, 1) for axis in (0, 1)]
    assert np.abs(view - exact).mean() < 0.5 * min(shifted)


def test_a_window_of_a_reduced_image_lies_where_it_should(photo: Path):
    whole = Cut((0, 0, 1365, 913), (400, 598))
    window = Cut((0, 0, 1365, 913), (400, 598), window_xyxy=(301, 77, 501, 277))
    reduced = read_reduced(photo, scale=2).pixels
    part, all_of_it = (cut_image(reduced, cut, scale=2).astype(int) for cut in (window, whole))
    assert np.abs(part - all_of_it[77:277, 301:501]).max() <= 2


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize(("size_wh", "scale"), [((640, 480), 4), ((641, 480), 1)])
def test_turned_photos_are_reduced_where_their_blocks_fit(tmp_path: Path, orientation: int, size_wh, scale: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(PHOTO) as image:
        image.resize(size_wh).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    reduced, whole = (read_reduced(tmp_path / "turned.jpg", scale=asked) for asked in (4, 1))
    assert (reduced.scale, reduced.size_hw) == (scale, whole.pixels.shape[:2])
    smaller = resize_image(whole.pixels, reduced.pixels.shape[:2]).astype(int)
    assert np.abs(reduced.pixels - smaller).mean() < 3


@pytest.mark.parametrize(("suffix", "mode", "scale"), [(".png", "RGB", 1), (".jpg", "L", 4), (".jpg", "CMYK", 4)])
def test_only_jpegs_are_reduced(tmp_path: Path, suffix: str, mode: str, scale: int):
    Image.new(mode, (33, 17)).save(tmp_path / f"a{suffix}")
    image = read_reduced(tmp_path / f"a{suffix}", scale=4)
    assert (image.scale, image.size_hw) == (scale, (17, 33))


def test_images_smaller_than_the_scale(tmp_path: Path):
    Image.new("RGB", (3, 9)).save(tmp_path / "a.jpg")
    image = read_reduced(tmp_path / "a.jpg", scale=8)
    assert image.size_hw == (9, 3)
    assert image.pixels.shape == (-(-9 // image.scale), -(-3 // image.scale), 3)


def test_damaged_photos_are_named(tmp_path: Path, photo: Path):
    (tmp_path / "half.jpg").write_bytes(photo.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"half\.jpg is damaged or truncated"):
        read_reduced(tmp_path / "half.jpg", scale=4)
