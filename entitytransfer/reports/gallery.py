"""The gallery of a recall: the images with the best and the worst one on a page, their errors counted."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cropformer import Entities, atomic_path
from entitytransfer.adapter import Sample
from entitytransfer.predictions import ensure_writable
from entitytransfer.reports.overlays import annotated_entities, shrunk
from entitytransfer.reports.page import number_list, write_page

PAGE, PICTURES = "index.html", "images"
MAX_SIDE = 800
MAX_ENTITIES = 100
_JPEG_QUALITY = 88
_ERRORS = ("missed", "merged", "split")


@dataclass(frozen=True)
class ImageCounts:
    """What became of the annotated entities of an image, see ``evaluators.entity_errors``.

    Attributes:
        image_id: the id of the image in its set.
        found: number of entities that were found.
        merged: number of those merged with others.
        split: number of those split into parts.
        missed: number of the rest.
    """

    image_id: int | str
    found: int
    merged: int
    split: int
    missed: int

    @property
    def entities(self) -> int:
        """Number of annotated entities."""
        return self.found + self.merged + self.split + self.missed

    @property
    def recall(self) -> float:
        """The part of the entities that was found."""
        return self.found / self.entities

    def sentence(self) -> str:
        """The counts in words."""
        errors = [f"{getattr(self, name)} {name}" for name in _ERRORS]
        return " · ".join([f"{self.found} of {self.entities} found", *errors])


def totals(images: Sequence[ImageCounts]) -> dict[str, int]:
    """The counts of all images together."""
    names = ("entities", "found", *_ERRORS)
    return {name: sum(getattr(one, name) for one in images) for name in names}


def best_and_worst(images: Iterable[ImageCounts], *, count: int) -> tuple[list[ImageCounts], list[ImageCounts]]:
    """The images with the highest and with the lowest recall, ``count`` of each, none in both.

    Of equal recalls those with more entities come first, as they say more. Images without entities are left out.
    """
    annotated = sorted((one for one in images if one.entities), key=lambda one: -one.entities)
    worst = sorted(annotated, key=lambda one: one.recall)[: min(count, len(annotated) // 2)]
    others = [one for one in annotated if one not in worst]
    return sorted(others, key=lambda one: -one.recall)[:count], worst


def write_gallery(
    folder: Path,
    images: Sequence[ImageCounts],
    results: Iterable[tuple[Sample, Entities]],
    *,
    title: str,
    subtitle: str,
    protocol: str,
    count: int,
) -> Path:
    """Write ``index.html`` and its pictures, JPEGs of at most 800 pixels; the folder needs nothing else.

    Args:
        folder: made if needed; an earlier gallery in it is replaced.
        images: the counts of all images of the set.
        results: every sample of the set with its prediction; only photos that are shown are read.
        title: of the page.
        subtitle: a sentence below it.
        protocol: what the counts depend on, as lines of text.
        count: how many of the best images to show, and how many of the worst.

    Returns:
        The page.

    Raises:
        InputError: a photo or an annotation cannot be read, or a place cannot be written.
    """
    best, worst = best_and_worst(images, count=count)
    pictures = ensure_writable(folder / PICTURES)
    files = {}
    for group, members in (("best", best), ("worst", worst)):
        for earlier in pictures.glob(f"{group}-*.jpg"):
            earlier.unlink()
        files |= {one.image_id: pictures / f"{group}-{rank:02}" for rank, one in enumerate(members, start=1)}
    figures = {
        sample.image_id: _draw(files[sample.image_id], sample, entities)
        for sample, entities in results
        if sample.image_id in files
    }
    values = {
        "title": html.escape(title),
        "subtitle": html.escape(subtitle),
        "totals": number_list(_shown_totals(images)),
        "worst": "\n".join(_section(one, figures[one.image_id]) for one in worst),
        "best": "\n".join(_section(one, figures[one.image_id]) for one in best),
        "protocol": html.escape(protocol),
    }
    write_page(folder / PAGE, "gallery.html", values)
    return folder / PAGE


def _shown_totals(images: Sequence[ImageCounts]) -> dict[str, str]:
    counts = totals(images)
    recall = f"{counts['found'] / counts['entities']:.1%}" if counts["entities"] else "-"
    numbers = {"images": str(len(images))} | {name: str(value) for name, value in counts.items()}
    return {"AR@100": recall} | numbers


def _draw(base: Path, sample: Sample, entities: Entities) -> str:
    """Write the three pictures of an image, whose names begin as ``base``, and give their figures."""
    photo = sample.read_frame()
    truth, counted = annotated_entities(sample), entities.select(np.arange(len(entities)) < MAX_ENTITIES)
    pictures = {
        "photo": ("Photo", photo),
        "annotated": (f"Annotated: {len(truth)}", truth.draw(photo)),
        "predicted": (f"Predicted: {len(counted)}", counted.draw(photo)),
    }
    figures = []
    for name, (caption, picture) in pictures.items():
        path = base.with_name(f"{base.name}-{name}.jpg")
        with atomic_path(path) as temporary:
            Image.fromarray(shrunk(picture, MAX_SIDE)).save(temporary, format="JPEG", quality=_JPEG_QUALITY)
        source = f"{PICTURES}/{path.name}"
        figures.append(
            f'<figure><img src="{source}" alt="{caption}" loading="lazy"><figcaption>{caption}</figcaption></figure>'
        )
    return "\n".join(figures)


def _section(image: ImageCounts, figures: str) -> str:
    name = html.escape(str(image.image_id))
    return f'<h3>{name}</h3>\n<p>{image.sentence()}</p>\n<div class="trio">\n{figures}\n</div>'
