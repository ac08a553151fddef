"""The gallery of a recall: which images it shows, what it counts, and that the folder needs nothing else."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import Entities, rle
from entitytransfer.adapter import Sample
from entitytransfer.datasets import coco
from entitytransfer.evaluators.coco_images import image_set
from entitytransfer.evaluators.entity_errors import judge_entities
from entitytransfer.reports.gallery import MAX_SIDE, ImageCounts, best_and_worst, write_gallery

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"
TITLE, PROTOCOL = "Recall on <LVIS> & co", "masks  <b>all</b>"


def some_entities(sample: Sample) -> Entities:
    """Every second annotated entity, and two neighbours as one."""
    masks = sample.entity_masks()
    found = np.concatenate([masks[::2], [masks[0] | masks[1]]])
    return Entities.from_masks(found, np.linspace(0.9, 0.2, len(found)), np.zeros(len(found)))


@pytest.fixture(scope="module")
def results() -> list[tuple[Sample, Entities]]:
    return [(sample, some_entities(sample)) for sample in coco.read(TINY)]


@pytest.fixture(scope="module")
def counts(results) -> list[ImageCounts]:
    return [
        ImageCounts(sample.image_id, **judge_entities(image_set(entities, sample, None)).counts())
        for sample, entities in results
    ]


def write(folder: Path, images: list[ImageCounts], results: list[tuple[Sample, Entities]], *, count: int = 1) -> str:
    texts = {"title": TITLE, "subtitle": "nano", "protocol": PROTOCOL}
    return write_gallery(folder, images, results, **texts, count=count).read_text()


def counted(name: int | str, found: int, missed: int) -> ImageCounts:
    return ImageCounts(name, found=found, merged=0, split=0, missed=missed)


def test_the_best_and_the_worst():
    images = [counted("a", 1, 1), counted("b", 4, 0), counted("c", 0, 9), counted("d", 0, 2), counted("none", 0, 0)]
    images.append(counted("e", 1, 0))
    best, worst = best_and_worst(images, count=2)
    assert [one.image_id for one in best] == ["b", "e"]
    assert [one.image_id for one in worst] == ["c", "d"]


@pytest.mark.parametrize(("size", "expected"), [(0, (0, 0)), (1, (1, 0)), (2, (1, 1)), (5, (3, 2)), (40, (8, 8))])
def test_no_image_is_among_both(size, expected):
    best, worst = best_and_worst([counted(str(index), index, 3) for index in range(size)], count=8)
    assert (len(best), len(worst)) == expected
    assert not {one.image_id for one in best} & {one.image_id for one in worst}


def test_equal_recalls_are_shared_out():
    images = [counted(str(number), 0, number) for number in range(1, 5)]
    best, worst = best_and_worst(images, count=2)
    assert ([one.image_id for one in worst], [one.image_id for one in best]) == (["4", "3"], ["2", "1"])


def test_the_counts_are_those_of_the_entity_errors(tmp_path, counts, results):
    page = write(tmp_path, counts, results, count=2)
    sums = {
        name: sum(getattr(one, name) for one in counts) for name in ("entities", "found", "missed", "merged", "split")
    }
    assert sums["entities"] == sum(len(sample.entity_rles()) for sample, _ in results)
    assert min(sums["found"], sums["missed"] + sums["merged"]) > 0
    numbers = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert {name: numbers[name] for name in sums} == {name: str(value) for name, value in sums.items()}
    assert numbers["images"] == "4"
    assert numbers["AR@100"] == f"{sums['found'] / sums['entities']:.1%}"
    sentences = dict(re.findall(r"<h3>(.*?)</h3>\n<p>(.*?)</p>", page))
    assert sentences == {
        str(one.image_id): f"{one.found} of {one.entities} found · {one.missed} missed · {one.merged} merged · "
        f"{one.split} split"
        for one in counts
    }


def test_every_picture_lies_in_the_folder_and_is_small(tmp_path, counts, results):
    page = write(tmp_path, counts, results, count=1)
    sources = re.findall(r'src="(.*?)"', page)
    assert len(sources) == 6
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg")} == set(sources)
    for source in sources:
        with Image.open(tmp_path / source) as picture:
            assert max(picture.size) <= MAX_SIDE
    assert not re.search(r"https?:|@import|url\(|\$", page)


def test_large_photos_are_shrunk(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (1000, 20), "red").save(tmp_path / "images" / "wide.png")
    mask = np.zeros((20, 1000), dtype=bool)
    mask[:, :500] = True
    truth = {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "segmentation": rle.encode(mask)}
    image = {"id": 7, "file_name": "wide.png", "height": 20, "width": 1000}
    content = {"images": [image], "annotations": [truth], "categories": [{"id": 1, "name": "entity"}]}
    (tmp_path / "entities.json").write_text(json.dumps(content))
    (sample,) = coco.read(tmp_path)
    write(tmp_path / "gallery", [counted(7, 1, 0)], [(sample, Entities.from_masks(mask[None], [0.5], [0]))])
    for name in ("photo", "annotated", "predicted"):
        with Image.open(tmp_path / "gallery" / "images" / f"best-01-{name}.jpg") as picture:
            assert picture.size == (800, 16)
            inside, outside = (np.array(picture.getpixel((x, 8)), dtype=int) for x in (200, 600))
        assert np.abs(outside - [254, 0, 0]).max() < 8
        assert (np.abs(inside - outside).max() > 40) == (name != "photo")


def test_texts_are_escaped(tmp_path, counts, results):
    page = write(tmp_path, counts, results)
    assert html.escape(TITLE) in page and TITLE not in page
    assert html.escape(PROTOCOL) in page and PROTOCOL not in page


def test_an_earlier_gallery_is_replaced(tmp_path, counts, results):
    write(tmp_path, counts, results, count=2)
    assert len(list(tmp_path.rglob("*.jpg"))) == 12
    write(tmp_path, counts, results, count=1)
    assert len(list(tmp_path.rglob("*.jpg"))) == 6


def test_a_set_without_entities_has_a_page(tmp_path):
    page = write(tmp_path, [counted("a", 0, 0)], [])
    assert dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))["AR@100"] == "-"
