"""The doctor: nothing to say about a healthy tree, and one sentence with a remedy for each kind of damage."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import InputError
from entitytransfer.cli import main
from entitytransfer.datasets import coco, entityseg
from entitytransfer.doctor import Finding, as_json, as_lines, is_healthy

from .entityseg_tree import make_entityseg_tree

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"
ANNOTATIONS = Path("entityseg/annotations")
TRAIN = ANNOTATIONS / "entity_segmentation/entityv2_010203_entity_train.json"
INSTANCES = ANNOTATIONS / "instance_segmentation/entityv2_01_instances_train.json"
PANOPTIC = ANNOTATIONS / "panoptic_segmentation/entityv2_01_panoptic_train.json"
PANOPTIC_MAP = ANNOTATIONS / "panoptic_segmentation/panoptic_maps_train/000001.png"
SEMANTIC_MAP = ANNOTATIONS / "semantic_segmentation/semantic_maps_train/000001.png"
PHOTO = Path("entityseg/images/entity_01_11580/000001.jpg")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return make_entityseg_tree(tmp_path_factory.mktemp("datasets"))


@pytest.fixture
def root(tree, tmp_path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "copy"))


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def told(findings, level: str) -> list[str]:
    """What findings of a level say, with what they advise."""
    return [f"{finding.what} > {finding.fix}" for finding in findings if finding.level == level]


def examine(root: Path, **choice) -> list[Finding]:
    return list(entityseg.examine(root, **choice))


# --- healthy


def test_a_healthy_tree_is_counted(tree):
    findings = examine(tree)
    assert is_healthy(findings)
    counts = [finding.what for finding in findings if finding.level == "ok"]
    assert len(counts) == len(entityseg.CHOICES)
    assert counts[0] == "train entity: 4 images, 32 entities (8.0 in an image, at most 13), categories: 24"
    assert "train semantic: 2 images, 5 entities (2.5 in an image, at most 3), categories: 5" in counts
    notes = told(findings, "note")
    assert len(notes) == 6
    assert notes[0].startswith("3 images in images/entity_01_11580, where 11,580 are published > Download the others")


def test_full_decodes_every_photo(root):
    head, marker, rest = (root / PHOTO).read_bytes().partition(b"\xff\xc4")  # the first Huffman table
    (root / PHOTO).write_bytes(head + marker + rest[:3] + b"\xff" * 16 + rest[19:])
    assert is_healthy(examine(root, task="entity", split="train", resolution="high"))
    (sentence,) = told(examine(root, task="entity", split="train", resolution="high", full=True), "broken")
    assert sentence.startswith("1 image unreadable: 000001.jpg;")


def test_a_choice_is_all_that_is_examined(root):
    shutil.rmtree(root / "entityseg/images_lr")
    (root / INSTANCES).unlink()
    findings = examine(root, task="entity", resolution="high")
    assert is_healthy(findings)
    assert sum(finding.level == "ok" for finding in findings) == 5


def test_a_choice_that_is_not_published_is_refused(tree):
    with pytest.raises(InputError, match="EntitySeg has no task=semantic resolution=low"):
        examine(tree, task="semantic", resolution="low")


# --- what is missing


def test_an_empty_folder_says_what_to_download(tmp_path):
    (finding,) = examine(tmp_path)
    assert finding.level == "missing"
    assert "holds no EntitySeg" in finding.what
    assert "no commercial use" in finding.fix
    assert "qqlu1992/Adobe_EntitySeg" in finding.fix


def test_missing_annotation_files_are_named(root):
    (root / TRAIN).unlink()
    (sentence,) = told(examine(root), "missing")
    assert sentence.startswith("no entityv2_010203_entity_train.json > Download the annotations of EntitySeg")


def test_the_missing_low_resolution_set_is_made_by_the_tool(root):
    shutil.rmtree(root / "entityseg/images_lr")
    for path in (root / TRAIN).parent.glob("*_lr.json"):
        path.unlink()
    sentences = told(examine(root), "missing")
    assert [sentence.split(" > ")[0] for sentence in sentences] == [
        "no folder images_lr/entity_01_11580",
        "no folder images_lr/entity_02_11598",
        "no folder images_lr/entity_03_10049",
        "no entityv2_010203_entity_train_lr.json",
        "no entityv2_010203_entity_val_lr.json",
    ]
    remedy = f"Make the low-resolution set with: python -m tools.make_low_res {root / 'entityseg'}"
    assert all(sentence.endswith(remedy) for sentence in sentences)


def test_missing_images_are_named_once_for_each_file_that_lists_them(root):
    (root / PHOTO).unlink()
    sentences = told(examine(root, split="train", resolution="high"), "missing")
    assert len(sentences) == 4
    assert sentences[0].startswith("1 image of 4 in entityv2_010203_entity_train.json missing: 000001.jpg > Download")


@pytest.mark.parametrize(("task", "path"), [("panoptic", PANOPTIC_MAP), ("semantic", SEMANTIC_MAP)])
def test_missing_maps_are_named(root, task, path):
    (root / path).unlink()
    (sentence,) = told(examine(root, task=task), "missing")
    assert sentence.startswith("1 map of 2 in ")
    assert "missing: 000001.png > Download the maps again." in sentence


# --- broken images


def replace_photo(root: Path, image: Image.Image, **options) -> None:
    image.save(root / PHOTO, **options)


def test_an_image_of_another_size(root):
    replace_photo(root, Image.new("RGB", (64, 48)))
    (sentence,) = told(examine(root, task="entity", split="train", resolution="high"), "broken")
    assert "1 image not of the annotated size: 000001.jpg; 000001.jpg is 64x48, annotated 128x96" in sentence


def test_a_turned_image_has_the_size_that_is_seen(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    replace_photo(root, Image.new("RGB", (96, 128)), exif=exif)
    assert is_healthy(examine(root, task="entity", split="train", resolution="high"))


@pytest.mark.parametrize("content", [b"", b"no photo", None])
def test_an_image_that_cannot_be_read(root, content):
    (root / PHOTO).write_bytes((root / PHOTO).read_bytes()[:-500] if content is None else content)
    (sentence,) = told(examine(root, task="entity", split="train", resolution="high"), "broken")
    assert sentence.startswith("1 image unreadable: 000001.jpg;")
    assert sentence.endswith("> Delete and download these again.")


def test_an_image_that_nothing_annotates(root):
    shutil.copy(root / PHOTO, (root / PHOTO).with_name("stray.jpg"))
    findings = examine(root)
    assert is_healthy(findings)
    assert "1 image without annotation: stray.jpg > They are not used." in told(findings, "note")


# --- broken annotations


def break_rle(content):
    for index, counts in ((1, "~~~"), (2, "abc"), (4, content["annotations"][5]["segmentation"]["counts"][:-3])):
        content["annotations"][index]["segmentation"]["counts"] = counts


def resize_rle(content):
    content["annotations"][0]["segmentation"]["size"] = [96, 127]


def repeat_image(content):
    content["images"].append(content["images"][0])


def forget_image(content):
    del content["images"][0]


def repeat_annotation(content):
    content["annotations"].append(content["annotations"][0])


def forget_height(content):
    del content["images"][2]["height"]


BROKEN = {
    break_rle: "3 damaged masks: annotation ids 101, 102, 201; ",
    resize_rle: "1 damaged mask: annotation ids 100; The RLE has size [96, 127] but its image [96, 128]",
    repeat_image: "1 image id listed more than once: 1",
    forget_image: "3 annotations of images that are not listed: ids 100, 101, 102",
    repeat_annotation: "1 annotation id used more than once: 100",
    forget_height: "entityv2_010203_entity_train.json is not COCO-instance JSON: KeyError('height')",
}


@pytest.mark.parametrize(("change", "sentence"), BROKEN.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_annotation_file(root, change, sentence):
    edit(root / TRAIN, change)
    sentences = told(examine(root, task="entity", split="train", resolution="high"), "broken")
    assert sentences[0].startswith(sentence)


def test_half_a_file_is_not_json(root):
    (root / TRAIN).write_text((root / TRAIN).read_text()[:-50])
    (sentence,) = told(examine(root, task="entity", split="train", resolution="high"), "broken")
    assert "is not valid JSON" in sentence


def test_crowds_empty_masks_and_images_without_or_with_too_many_entities_are_noted(root):
    def change(content):
        for entry in content["annotations"]:
            if entry["image_id"] == 4:
                entry["iscrowd"] = 1
        first = content["annotations"][0]
        many = [{**first, "id": 10_000 + index, "image_id": 3} for index in range(220)]
        content["annotations"] += many
        first["segmentation"] = {"size": [96, 128], "counts": [96 * 128]}

    edit(root / TRAIN, change)
    findings = examine(root, task="entity", split="train", resolution="high")
    assert is_healthy(findings)
    assert [note.split(" > ")[0] for note in told(findings, "note")][3:] == [
        "4 crowd annotations: ids 400, 401, 402, ...",
        "1 mask without a pixel: annotation ids 100",
        "1 image of train entity without entities: image ids 4",
        "1 image of train entity with more than 100 entities: image ids 3",
        "1 image of train entity with more than 200 entities: image ids 3",
    ]


def test_categories_that_are_unknown_or_too_few(root):
    edit(root / INSTANCES, lambda content: content["categories"].pop())
    edit(root / INSTANCES, lambda content: content["annotations"][0].update(category_id=999))
    findings = examine(root, task="instance", split="train")
    assert told(findings, "broken")[0].startswith("1 category id used but not listed: 999")
    assert any("205 category ids listed, but the published file has 206" in note for note in told(findings, "note"))


# --- maps


def repaint(path: Path, old, new) -> None:
    pixels = np.asarray(Image.open(path)).copy()
    pixels[(pixels == old).reshape(*pixels.shape[:2], -1).all(axis=-1)] = new
    Image.fromarray(pixels).save(path)


def test_a_semantic_value_that_is_no_class(root):
    repaint(root / SEMANTIC_MAP, 7, 150)
    (sentence,) = told(examine(root, task="semantic"), "broken")
    assert "1 broken map: 000001.png" in sentence
    assert "holds the value 150, but the classes are 0 to 149 and 255 is ignored" in sentence


def test_a_semantic_map_of_another_size(root):
    Image.new("L", (20, 10)).save(root / SEMANTIC_MAP)
    (sentence,) = told(examine(root, task="semantic"), "broken")
    assert "has height and width (10, 20) but its image (96, 128)" in sentence


def test_panoptic_ids_that_differ(root):
    repaint(root / PANOPTIC_MAP, (1000 % 256, 1000 // 256, 0), (7, 0, 0))
    (sentence,) = told(examine(root, task="panoptic"), "broken")
    assert "000001.png and the JSON differ: ids 7 are in the PNG alone, 1000 in the JSON alone." in sentence


def test_a_panoptic_map_of_another_size(root):
    Image.new("RGB", (20, 10)).save(root / PANOPTIC_MAP)
    (sentence,) = told(examine(root, task="panoptic"), "broken")
    assert "000001.png has height and width (10, 20) but its image (96, 128)" in sentence


def test_a_list_that_is_damaged(root):
    (root / ANNOTATIONS / "semantic_segmentation/train.txt").write_text("only-one-name\n")
    (sentence,) = told(examine(root, task="semantic"), "broken")
    assert "train.txt, line 1 is not an image and its map" in sentence


# --- any COCO-format set


def test_a_healthy_coco_set():
    findings = list(coco.examine(TINY))
    assert [finding.level for finding in findings] == ["ok"]
    assert findings[0].what.startswith("panoptic: 4 images, ")
    assert is_healthy(coco.examine(TINY, annotations="instances.json"))


def test_a_coco_set_without_annotations(tmp_path):
    (tmp_path / "images").mkdir()
    (finding,) = coco.examine(tmp_path)
    assert finding.level == "missing"
    assert "holds none of panoptic.json, instances.json, entities.json" in finding.what


# --- the command


def test_the_command_of_a_healthy_tree(tree, capsys):
    assert main(["doctor", "dataset=entityseg", f"root={tree}", "split=val", "task=entity"]) == 0
    printed = capsys.readouterr()
    assert "ok      val entity: 2 images, 16 entities" in printed.out
    assert printed.err == ""


def test_the_command_of_a_broken_tree(root, tmp_path, capsys):
    (root / PHOTO).unlink()
    path = tmp_path / "findings.json"
    assert main(["doctor", "dataset=entityseg", f"root={root}", "task=instance", "--json", str(path)]) == 2
    assert "        > Download the images of EntitySeg" in capsys.readouterr().out
    content = json.loads(path.read_text())
    assert content["healthy"] is False
    (finding,) = [finding for finding in content["findings"] if finding["level"] == "missing"]
    assert finding["where"] == str((root / PHOTO).parent)
    assert finding["fix"].startswith("Download the images")


def test_json_alone_on_the_standard_output(tree, capsys):
    command = ["doctor", "dataset=entityseg", f"root={tree}", "task=panoptic", "split=train", "--full", "--json", "-"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["healthy"] is True


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["root=x"], "Say dataset=..."),
        (["dataset=entityseg", "root=x", "part=1"], "no setting part=; choose from full, split, task, resolution"),
        (["dataset=entitysegs", "root=x"], "There is no dataset 'entitysegs'; choose one of"),
    ],
)
def test_the_command_says_what_it_does_not_understand(capsys, settings, words):
    assert main(["doctor", *settings]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_finding_is_one_line_with_its_remedy():
    findings = [Finding("broken", "a leg", Path("here"), "Rest."), Finding("ok", "the rest")]
    assert as_lines(findings) == ["broken  a leg (here)", "        > Rest.", "ok      the rest"]
    assert as_json(findings)["findings"][1] == {"level": "ok", "what": "the rest", "where": None, "fix": ""}
