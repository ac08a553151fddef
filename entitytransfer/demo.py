"""The ``demo`` command: the bundled photo and clip, segmented, on a page that needs no network."""

import base64
import time
from pathlib import Path

from cropformer import EntitySegmenter, read_image
from entitytransfer.console import JobProgress
from entitytransfer.jobs.clips import clip_segmenter, segment_clip
from entitytransfer.jobs.inputs import Job
from entitytransfer.jobs.options import SegmentOptions
from entitytransfer.predictions import ensure_writable
from entitytransfer.reports.page import Numbers, number_list, write_page
from entitytransfer.segment import load_model
from entitytransfer.writers.image import write_image

_ASSETS = Path(__file__).parent / "assets"
PHOTO = Job(_ASSETS / "riders.jpg", "riders", is_clip=False)
CLIP = Job(_ASSETS / "crossing_cars.mp4", "crossing_cars", is_clip=True)
CREDITS = (
    "Photo: image 7281 of COCO val2017, from Flickr, CC BY 2.0. "
    "Clip: Intel IoT sample videos, CC BY 4.0, cut and scaled."
)
_MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".mp4": "video/mp4"}


def make_demo(out_dir: Path, *, weights: str = "nano", device: str = "auto") -> Path:
    """Segment the bundled photo and clip, and write their results and ``index.html``.

    Args:
        out_dir: folder for the files, made if needed.
        weights: "nano", a published name, an ``hf://`` address, or a path.
        device: "auto", or a name that torch knows.

    Returns:
        The page; it holds its pictures and videos, so it can be moved or sent.

    Raises:
        InputError: the folder cannot be written, or the weights or the device do not exist.
    """
    ensure_writable(out_dir)
    options = SegmentOptions(out_dir=out_dir, weights=weights, device=device)
    start_s = time.perf_counter()
    model = load_model(weights, device=device)
    model_numbers = _describe(model, weights, seconds=time.perf_counter() - start_s)
    with JobProgress(2) as progress:
        photo_numbers = _segment_photo(model, options, progress)
        clip_numbers = _segment_clip(model, options, progress)
    page = out_dir / "index.html"
    write_page(page, "demo.html", _page_values(out_dir, model_numbers, photo_numbers, clip_numbers))
    return page


def _describe(model: EntitySegmenter, weights: str, *, seconds: float) -> Numbers:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "weights": Path(weights).stem,
        "parameters": f"{parameters / 1e6:.1f} M",
        "device": str(model.device),
        "loaded in": f"{seconds:.1f} s",
    }


def _segment_photo(model: EntitySegmenter, options: SegmentOptions, progress: JobProgress) -> Numbers:
    start_s = time.perf_counter()
    image = read_image(PHOTO.path)
    entities = model.segment(image)
    seconds = time.perf_counter() - start_s
    formats = PHOTO.formats(options.formats)
    write_image(options.out_dir, PHOTO.name, image=image, entities=entities, formats=formats)
    progress.finish(f"{PHOTO.path.name}: {len(entities)} entities in {seconds:.1f} s")
    return {
        "entities": str(len(entities)),
        "pixels explained": f"{(entities.id_map() > 0).mean():.0%}",
        "size": f"{image.shape[1]} × {image.shape[0]}",
        "time": f"{seconds:.1f} s",
    }


def _segment_clip(model: EntitySegmenter, options: SegmentOptions, progress: JobProgress) -> Numbers:
    start_s = time.perf_counter()
    result = segment_clip(clip_segmenter(model, options), CLIP, options, progress=progress)
    seconds = time.perf_counter() - start_s
    height, width = result.size_hw
    progress.finish(f"{CLIP.path.name}: {result.tracks} tracks in {result.frames} frames in {seconds:.1f} s")
    return {
        "tracks": str(result.tracks),
        "frames": str(result.frames),
        "size": f"{width} × {height}",
        "time": f"{seconds:.1f} s",
        "per frame": f"{seconds / result.frames:.2f} s",
    }


def _page_values(out_dir: Path, model: Numbers, photo: Numbers, clip: Numbers) -> dict[str, str]:
    return {
        "model_numbers": number_list(model),
        "photo": _as_data_url(PHOTO.path),
        "photo_overlay": _as_data_url(out_dir / f"{PHOTO.name}_overlay.png"),
        "photo_numbers": number_list(photo),
        "clip": _as_data_url(CLIP.path),
        "clip_overlay": _as_data_url(out_dir / f"{CLIP.name}_overlay.mp4"),
        "clip_numbers": number_list(clip),
        "credits": CREDITS,
    }


def _as_data_url(path: Path) -> str:
    """A file as a URL that holds all of it."""
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:{_MEDIA_TYPES[path.suffix]};base64,{content}"
