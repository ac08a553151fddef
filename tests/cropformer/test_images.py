"""Any image file becomes what a viewer shows; anything else becomes one sentence."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer.errors import InputError
from cropformer.images import IMAGE_SUFFIXES, read_image


@pytest.fixture
def photo() -> np.ndarray:
    """A smooth uint8 RGB image [24,32,3] that lossy formats keep within a few levels."""
    ys, xs = np.mgrid[:24, :32]
    return np.stack([xs * 7, ys * 9, 200 - ys * 4 - xs], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_promised_format(photo: np.ndarray, tmp_path: Path, suffix: str):
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(photo).save(path)
    image = read_image(path)
    assert image.shape == photo.shape
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert np.abs(image.astype(int) - photo).mean() < 6


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, np.rot90), (2, lambda a: a[:, ::-1])],
)
def test_exif_rotation_is_applied(photo: np.ndarray, tmp_path: Path, orientation: int, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png"), turned(photo))


def test_broken_exif_does_not_cost_the_image(photo: np.ndarray, tmp_path: Path):
    Image.fromarray(photo).save(tmp_path / "a.webp", lossless=True, exif=b"Exif\x00\x00nonsense, no TIFF")
    assert np.array_equal(read_image(tmp_path / "a.webp"), photo)


def test_grey_is_repeated(photo: np.ndarray, tmp_path: Path):
    Image.fromarray(photo[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), photo[..., :1].repeat(3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, suffix: str):
    grey = np.array([[0, 257, 128], [129, 32_896, 65_535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / f"grey{suffix}")
    assert read_image(tmp_path / f"grey{suffix}")[..., 1].tolist() == [[0, 1, 0], [1, 128, 255]]


def test_16_bit_grey_in_a_32_bit_mode(tmp_path: Path):
    Image.fromarray(np.array([[0, 65_535]], dtype=np.int32)).save(tmp_path / "grey.tif")
    assert read_image(tmp_path / "grey.tif")[..., 0].tolist() == [[0, 255]]


@pytest.mark.parametrize("values", [np.array([[0, 70_000]], np.int32), np.array([[0.0, 1.0]], np.float32)])
def test_32_bit_grey_has_no_known_range(tmp_path: Path, values: np.ndarray):
    Image.fromarray(values).save(tmp_path / "depth.tif")
    with pytest.raises(InputError, match=r"depth\.tif holds 32-bit grey values; save it with 8 or 16 bits"):
        read_image(tmp_path / "depth.tif")


def test_one_bit(tmp_path: Path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    assert read_image(tmp_path / "bits.png").tolist() == [[[255] * 3, [0] * 3]]


def test_palette(photo: np.ndarray, tmp_path: Path):
    indexed = Image.fromarray(photo).quantize(16)
    indexed.save(tmp_path / "palette.png")
    assert np.array_equal(read_image(tmp_path / "palette.png"), np.asarray(indexed.convert("RGB")))


def test_cmyk(tmp_path: Path):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    cyan.save(tmp_path / "print.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "print.jpg").astype(int) - [0, 255, 255]).max() <= 3


def test_transparency_is_laid_on_white(tmp_path: Path):
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "sprite.png")
    assert read_image(tmp_path / "sprite.png").tolist() == [[[200, 0, 0], [255, 255, 255], [204, 204, 204]]]


def test_transparent_palette_entry_is_white(tmp_path: Path):
    indexed = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    indexed.putpalette([255, 0, 0, 0, 0, 255])
    indexed.save(tmp_path / "sprite.png", transparency=0)
    assert read_image(tmp_path / "sprite.png").tolist() == [[[255, 255, 255], [0, 0, 255]]]


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 3)])
def test_tiny(tmp_path: Path, size_hw: tuple[int, int]):
    pixels = np.arange(3 * size_hw[0] * size_hw[1], dtype=np.uint8).reshape(*size_hw, 3)
    Image.fromarray(pixels).save(tmp_path / "tiny.png")
    assert np.array_equal(read_image(str(tmp_path / "tiny.png")), pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
def test_truncated(photo: np.ndarray, tmp_path: Path, suffix: str):
    path = tmp_path / f"half{suffix}"
    Image.fromarray(photo).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=rf"half{suffix} is (damaged or truncated|not an image)"):
        read_image(path)


def test_empty_file(tmp_path: Path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(InputError, match=r"empty\.jpg is empty \(0 bytes\); copy or download it again"):
        read_image(tmp_path / "empty.jpg")


def test_text_with_an_image_name(tmp_path: Path):
    (tmp_path / "notes.png").write_text("not pixels")
    with pytest.raises(InputError, match=r"notes\.png is not an image; give a JPEG"):
        read_image(tmp_path / "notes.png")


def test_missing_file(tmp_path: Path):
    with pytest.raises(InputError, match=r"Cannot read the image .*gone\.jpg: No such file"):
        read_image(tmp_path / "gone.jpg")


def test_folder(tmp_path: Path):
    with pytest.raises(InputError, match="is a folder; give an image file"):
        read_image(tmp_path)


def test_decompression_bomb(photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(photo).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"huge\.png has more than .* million pixels; make it smaller first"):
        read_image(tmp_path / "huge.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "I;16"])
def test_an_image_of_many_bands_is_read_as_a_whole(tmp_path: Path, mode: str):
    noise = np.random.default_rng(0).integers(0, 256, (700, 20, 3), dtype=np.uint8)
    whole = Image.fromarray(noise[..., 0].astype(np.uint16)) if mode == "I;16" else Image.fromarray(noise).convert(mode)
    whole.save(tmp_path / "tall.png")
    expected = np.zeros((700, 20, 3), np.uint8) + (noise[..., :1] / 257).round().astype(np.uint8)
    expected = expected if mode == "I;16" else np.asarray(whole.convert("RGB"))
    assert np.array_equal(read_image(tmp_path / "tall.png"), expected)
