"""Peers with tiny random weights: what their libraries say, as entities, through the commands like our own weights."""

import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.models import get_model
from torchvision.transforms.functional import normalize, resize, to_tensor

from cropformer import Entities, InputError, make_views, rle
from entitytransfer.adapter import Head
from entitytransfer.classes import ENTITY, Classes
from entitytransfer.cli import main
from entitytransfer.heads import EntityHead, InstanceHead, SemanticHead
from entitytransfer.peers import Peer, interpreted, open_peer
from entitytransfer.peers.deeplabv3 import label_entities
from entitytransfer.set_source import SetSource, open_set

from .ade20k_tree import make_ade20k_tree
from .coco_tree import make_coco_tree
from .zero_shot_trees import make_fss_tree

transformers = pytest.importorskip("transformers")

CPU = torch.device("cpu")
THREE = Classes(("a", "b", "c"), (2, 5, 7), (True, True, False))
LENIENT = {"points": 4, "min_iou": -99.0, "min_stability": -1.0, "max_box_iou": 1.0}
SMALL = {"short_side": 64, "max_side": 96}
MOBILE = {"model": "deeplabv3_mobilenet_v3_large", "short_side": 64}
OPTIONS = {"sam": LENIENT, "mask2former": SMALL, "mask_rcnn": SMALL | {"top_k": 20}, "deeplabv3": MOBILE}


def save_sam(folder: Path, _: int) -> Path:
    common = {"hidden_size": 16, "image_size": 64, "patch_size": 8}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 16}
    windows = {"window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 8}
    config = transformers.SamConfig(
        vision_config=transformers.SamVisionConfig(**common, **layers, **windows, output_channels=16),
        prompt_encoder_config=transformers.SamPromptEncoderConfig(**common, mask_input_channels=4),
        mask_decoder_config=transformers.SamMaskDecoderConfig(
            hidden_size=16, **layers, iou_head_hidden_dim=16, iou_head_depth=2
        ),
    )
    model = transformers.SamModel(config)
    with torch.no_grad():  # so that the masks of two points differ
        for weights in model.mask_decoder.parameters():
            weights.mul_(10)
    model.save_pretrained(folder)
    sizes = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}, "mask_size": {"longest_edge": 16}}
    transformers.SamProcessor(transformers.SamImageProcessor(**sizes)).save_pretrained(folder)
    return folder


def save_mask2former(folder: Path, classes: int) -> Path:
    stages = {"depths": [1] * 4, "num_heads": [1, 1, 2, 2], "out_features": [f"stage{n}" for n in (1, 2, 3, 4)]}
    config = transformers.Mask2FormerConfig(
        backbone_config=transformers.SwinConfig(image_size=64, embed_dim=8, window_size=4, **stages),
        **dict.fromkeys(["feature_size", "mask_feature_size", "hidden_dim", "encoder_feedforward_dim"], 32),
        **{"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "dim_feedforward": 32},
        num_queries=8,
        num_labels=classes,
    )
    model = transformers.Mask2FormerForUniversalSegmentation(config)
    with torch.no_grad():  # so that queries differ
        model.class_predictor.weight.mul_(5)
        model.model.pixel_level_module.decoder.mask_projection.weight.mul_(20)
    model.save_pretrained(folder)
    return folder


def save_mask_rcnn(folder: Path, classes: int) -> Path:
    model = get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None, num_classes=classes + 1)
    torch.nn.init.constant_(model.roi_heads.box_predictor.cls_score.bias[2], 1)  # the class that is found
    torch.save(model.state_dict(), folder / "mask_rcnn.pth")
    return folder / "mask_rcnn.pth"


def save_deeplabv3(folder: Path, classes: int) -> Path:
    model = get_model(MOBILE["model"], weights=None, weights_backbone=None, num_classes=classes, aux_loss=True)
    torch.save({"model": model.state_dict(), "epoch": 3}, folder / "deeplabv3.pth")
    return folder / "deeplabv3.pth"


SAVE = {"sam": save_sam, "mask2former": save_mask2former, "mask_rcnn": save_mask_rcnn, "deeplabv3": save_deeplabv3}


@pytest.fixture(scope="session")
def weights() -> Iterator[Callable[[str, int], str]]:
    """Where random weights of a peer lie, made once for each number of classes; all half a gigabyte of them goes."""
    made: dict[tuple[str, int], str] = {}

    def find(name: str, classes: int = 3) -> str:
        if (name, classes) not in made:
            torch.manual_seed(0)
            folder = Path(root) / f"{name}{classes}"
            folder.mkdir()
            made[name, classes] = str(SAVE[name](folder, classes))
        return made[name, classes]

    with TemporaryDirectory() as root:
        yield find


@pytest.fixture
def build(weights) -> Callable[..., Peer]:
    def built(name: str, head: Head, **options: object) -> Peer:
        return open_peer(name, weights(name), head=head, device=CPU, options=OPTIONS[name] | options)

    return built


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """FSS-1000 with two photos of 64x64 in its test split."""
    return str(make_fss_tree(tmp_path_factory.mktemp("fss"), images=1))


def arguments(name: str, path: str, out: Path) -> list[str]:
    """How a command is told to take a peer."""
    options = [f"+peer_options.{key}={value}" for key, value in OPTIONS[name].items()]
    return [f"peer={name}", f"weights={path}", f"out={out}", "device=cpu", *options]


# --- what the libraries say, as entities


@pytest.mark.parametrize("name", SAVE)
def test_entities_are_of_the_photos_size_and_sorted(name, build, photo):
    found = build(name, EntityHead()).predict(photo)
    assert found.size_hw == photo.shape[:2]
    assert len(found) > 0 and (np.diff(found.scores) <= 0).all()
    assert set(found.labels) == {0} and found.areas().min() > 0
    assert found.masks().sum(axis=0).max() == 1


def test_sam_gives_the_masks_of_the_librarys_generator(build, weights, photo):
    model = transformers.SamModel.from_pretrained(weights("sam"))
    processor = transformers.SamProcessor.from_pretrained(weights("sam")).image_processor
    generator = transformers.MaskGenerationPipeline(model=model, image_processor=processor, device=CPU)
    thresholds = {"pred_iou_thresh": -99.0, "stability_score_thresh": -1.0, "crops_nms_thresh": 1.0}
    for layers in (0, 1):
        expected = generator(Image.fromarray(photo), points_per_crop=4, crops_n_layers=layers, **thresholds)
        found = build("sam", EntityHead(overlap=True, min_score=-99.0), crop_layers=layers).predict(photo)
        assert len(found) > 1
        assert found.rles == [rle.encode(mask.numpy()) for mask in expected["masks"]]
        np.testing.assert_array_equal(found.scores, expected["scores"].numpy())


def test_sam_may_find_nothing(build, photo):
    assert len(build("sam", EntityHead(), min_iou=99.0).predict(photo)) == 0


@pytest.fixture
def square() -> np.ndarray:
    """A photo of the one size for which the post-processing of transformers resizes as the published one does."""
    return np.random.default_rng(0).integers(0, 256, (384, 384, 3), dtype=np.uint8)


@pytest.fixture
def said(weights, square) -> object:
    """What a Mask2Former of the library says about that photo."""
    network = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(weights("mask2former")).eval()
    with torch.inference_mode():
        return network(make_views(square, crops=0, short_side=384).pixels[:, 0])


def test_mask2former_proposes_every_query(build, square, said):
    found = build("mask2former", EntityHead(overlap=True), short_side=384, max_side=384).predict(square)
    probs = F.interpolate(said.masks_queries_logits, (384, 384), mode="bilinear").sigmoid()[0].numpy()
    class_scores = said.class_queries_logits.softmax(-1)[0, :, :-1].amax(-1).numpy()
    assert len(found) == sum(bool((prob > 0.5).any()) for prob in probs)
    for mask, score, query in zip(found.masks(), found.scores, found.query_ids):
        expected = probs[query] > 0.5
        assert (mask != expected).sum() <= 3
        assert score == pytest.approx(class_scores[query] * probs[query][expected].mean(), abs=1e-5)


def test_mask2former_agrees_with_the_library_where_that_keeps_the_shape(build, square, said):
    processor = transformers.Mask2FormerImageProcessor()
    options = {"short_side": 384, "max_side": 384}
    (labels,) = processor.post_process_semantic_segmentation(said, target_sizes=[(384, 384)])
    regions = build("mask2former", SemanticHead(THREE), **options).predict(square)
    found = np.append(regions.labels, -1)[regions.id_map() - 1]
    assert (found == labels.numpy()).mean() > 0.9999
    (expected,) = processor.post_process_instance_segmentation(
        said, threshold=0, target_sizes=[(384, 384)], return_binary_maps=True
    )
    instances = build("mask2former", InstanceHead(THREE, top_k=8), **options).predict(square)
    assert len(instances) == len(expected["segments_info"])
    order = np.argsort([-segment["score"] for segment in expected["segments_info"]], kind="stable")
    for mask, score, label, index in zip(instances.masks(), instances.scores, instances.labels, order):
        segment = expected["segments_info"][index]
        assert (label, score) == (segment["label_id"], pytest.approx(segment["score"], abs=1e-5))
        assert (mask != (expected["segmentation"][index].numpy() == 1)).sum() <= 3


def test_mask_rcnn_gives_the_masks_of_the_library(build, weights, photo):
    sizes = {"min_size": 64, "max_size": 96, "box_detections_per_img": 20}
    model = get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None, num_classes=4, **sizes).eval()
    model.load_state_dict(torch.load(weights("mask_rcnn")))
    with torch.inference_mode():
        (expected,) = model([to_tensor(photo.copy())])
    found = build("mask_rcnn", InstanceHead(THREE)).predict(photo)
    assert len(found) == 20
    np.testing.assert_array_equal(found.masks(), expected["masks"][:, 0].numpy() > 0.5)
    np.testing.assert_array_equal(found.scores, expected["scores"].numpy())
    np.testing.assert_array_equal(found.labels, expected["labels"].numpy() - 1)
    assert set(found.labels) == {1}
    # Weights with an output for every category id up to 3, as those for COCO have: 2 is the first class, or none.
    first, none = (build("mask_rcnn", InstanceHead(Classes(("a", "b"), ids, (True, True)))) for ids in ((2, 3), (1, 3)))
    assert first.num_classes == none.num_classes == 2
    again = first.predict(photo)
    assert again.rles == found.rles and set(again.labels) == {0}
    assert len(none.predict(photo)) == 0


def test_deeplabv3_gives_the_label_map_of_the_library(build, weights, photo):
    model = get_model(MOBILE["model"], weights=None, weights_backbone=None, num_classes=3, aux_loss=True).eval()
    model.load_state_dict(torch.load(weights("deeplabv3"))["model"])
    pixels = normalize(resize(to_tensor(photo.copy()), [64]), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.inference_mode():
        logits = F.interpolate(model(pixels[None])["out"], photo.shape[:2], mode="bilinear")[0]
    labels = logits.argmax(0).numpy()
    found = build("deeplabv3", SemanticHead(THREE)).predict(photo)
    assert {int(label): mask for label, mask in zip(found.labels, found.rles)} == {
        label: rle.encode(labels == label) for label in np.unique(labels).tolist()
    }


def test_a_label_map_becomes_one_region_for_each_class_with_its_mean_probability():
    logits = torch.tensor([[0.0, 0.0, 2.0], [-9.0, -9.0, -9.0], [1.0, 3.0, 0.0]])[:, None]  # [K,1,3]
    found = label_entities(logits, (1, 3))
    assert found.labels.tolist() == [0, 2]
    assert [rle.decode(mask).tolist() for mask in found.rles] == [[[False, False, True]], [[True, True, False]]]
    probs = logits.softmax(0)
    assert found.scores.tolist() == pytest.approx([float(probs[0, 0, 2]), float(probs[2, 0, :2].mean())], abs=1e-6)


def test_a_head_bounds_and_separates_the_entities_of_a_method():
    masks = np.array([[[1, 1, 0, 0]], [[1, 1, 0, 0]], [[0, 1, 1, 1]]], dtype=bool)
    given = Entities.from_masks(masks, [0.9, 0.8, 0.3], [2, 1, 0])
    apart = interpreted(given, EntityHead())
    assert apart.scores.tolist() == pytest.approx([0.9, 0.3])  # nothing is left of the second
    assert apart.areas().tolist() == [2, 2] and apart.labels.tolist() == [0, 0]
    assert interpreted(given, EntityHead(overlap=True)).rles == given.rles
    assert interpreted(given, EntityHead(overlap=True, min_score=0.5)).rles == given.rles[:2]
    assert interpreted(given, InstanceHead(THREE, top_k=2)).labels.tolist() == [2, 1]


# --- through the commands


@pytest.mark.parametrize("name", SAVE)
def test_zeroshot_measures_a_peer(name, weights, photos, tmp_path, capsys):
    given = arguments(name, weights(name), tmp_path)
    overlap = name == "sam"
    assert main(["zeroshot", "dataset=fss", f"root={photos}", f"overlap={overlap}", *given]) == 0
    content = json.loads((tmp_path / f"fss{'-overlap' * overlap}" / "metrics.json").read_text())
    protocol = content["protocol"]
    expected = {"peer": name, "weights": Path(weights(name)).name, "head": "entity", "overlap": overlap}
    expected |= {f"peer_options.{key}": value for key, value in OPTIONS[name].items()}
    assert {key: protocol[key] for key in expected} == expected
    library = "transformers" if name in ("sam", "mask2former") else "torchvision"
    assert protocol[library] == version(library)
    assert len(protocol["weights_sha256"]) == 64
    assert not {"source", "crops", "precision"} & protocol.keys()
    (row,) = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert row["name"] == f"{Path(weights(name)).stem}{', overlapping' * overlap}"
    assert 0 <= content["metrics"]["AR@100"] <= 1
    assert ("smaller photos are enlarged" in capsys.readouterr().out) == ("max_side" in OPTIONS[name])


@pytest.mark.parametrize(
    ("name", "dataset", "task", "metric", "files"),
    [
        ("mask_rcnn", "coco", "instance", "AP", "predictions.json"),
        ("mask2former", "coco", "panoptic", "PQ", "predictions_png"),
        ("deeplabv3", "ade20k", "semantic", "mIoU", "labels"),
        ("sam", "coco", "entity", "AP", "predictions.json"),
    ],
)
def test_evaluate_scores_a_peer_on_its_task(name, dataset, task, metric, files, weights, tmp_path):
    options = {"task": task, "split": "val"}
    root = {"coco": make_coco_tree, "ade20k": make_ade20k_tree}[dataset](tmp_path / "set", photos=1, val=1)
    classes = len(open_set(SetSource(str(root), dataset, options=options)).classes)
    data = [f"data.root={root}", f"data.dataset={dataset}", *(f"+data.options.{k}={v}" for k, v in options.items())]
    path = weights(name, classes if name != "sam" else 3)
    assert main(["evaluate", *data, *arguments(name, path, tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (content["protocol"]["peer"], content["protocol"]["head"]) == (name, task)
    assert 0 <= content["metrics"][metric] <= 1
    assert (tmp_path / "out" / files).exists()


def test_a_resumed_run_in_shards_gives_the_numbers_of_one(weights, photos, tmp_path, monkeypatch):
    def run(out: Path, *more: str) -> int:
        given = arguments("mask2former", weights("mask2former"), out)
        return main(["evaluate", f"data.root={photos}", "data.dataset=fss", *given, *more])

    assert run(tmp_path / "whole") == 0
    assert run(tmp_path / "parts", "--shard", "2/2") == run(tmp_path / "parts", "--shard", "1/2") == 0
    whole, parts = (json.loads((tmp_path / out / "metrics.json").read_text()) for out in ("whole", "parts"))
    assert parts["metrics"] == whole["metrics"]
    monkeypatch.setattr("entitytransfer.heads.fuse", None)  # nothing is predicted again
    assert run(tmp_path / "parts", "--shard", "1/2") == 0


OWN_PEER = """
import numpy as np
import torch
from cropformer import Entities
from entitytransfer.peers import Peer, interpreted

TASKS = ("entity",)


def build(weights, *, head, device, parts: int = 2) -> Peer:
    def predict(image):
        columns = np.arange(image.shape[1]) * parts // image.shape[1]
        id_map = np.broadcast_to(columns + 1, image.shape[:2])
        return interpreted(Entities.from_id_map(id_map, [1.0] * parts, [0] * parts), head)

    return Peer(torch.nn.Linear(2, 2), predict, num_classes=1, libraries=("numpy",))
"""


def test_a_peer_of_ones_own_is_a_module_anywhere(photos, tmp_path, monkeypatch):
    (tmp_path / "methods_of_mine").mkdir()
    (tmp_path / "methods_of_mine" / "columns.py").write_text(OWN_PEER)
    monkeypatch.syspath_prepend(tmp_path)
    given = ["peer=methods_of_mine.columns", "weights=mine", "+peer_options.parts=5", f"out={tmp_path / 'out'}"]
    assert main(["zeroshot", "dataset=fss", f"root={photos}", "device=cpu", *given]) == 0
    protocol = json.loads((tmp_path / "out" / "fss" / "metrics.json").read_text())["protocol"]
    expected = {"peer": "methods_of_mine.columns", "weights": "mine", "peer_options.parts": 5, "numpy": np.__version__}
    assert {key: protocol[key] for key in expected} == expected
    assert len(json.loads((tmp_path / "out" / "fss" / "predictions.json").read_text())) == 2 * 5


# --- what is refused


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["peer=sammy"], "There is no peer 'sammy'; choose one of deeplabv3, mask2former, mask_rcnn, sam, or give"),
        (["peer=nowhere.peer"], "There is no peer 'nowhere.peer'"),
        (["+peer_options.colour=red"], "The peer mask2former has no option 'colour'; it has short_side, max_side"),
        (["weights=nano"], "peer=mask2former needs weights of its own; give them as weights="),
        (["weights=/nowhere/else"], "Cannot load Mask2FormerForUniversalSegmentation from weights=/nowhere/else"),
        (["test.short_side=640"], "test.short_side is an option of our weights; a peer has its own, as peer_options"),
        (["precision=bf16"], "precision is an option of our weights"),
        (["max_memory=2GB"], "max_memory is an option of our weights"),
        (["head.source=I-O"], "head.source is an option of our weights"),
        (["device=cuda:99"], "This machine has no device 'cuda:99'"),
    ],
)
def test_bad_settings_are_one_sentence(more, words, weights, photos, tmp_path, capsys):
    given = arguments("mask2former", weights("mask2former"), tmp_path / "out")
    assert main(["zeroshot", "dataset=fss", f"root={photos}", *given, *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (tmp_path / "out" / "fss" / "predictions").exists()


@pytest.mark.parametrize(
    ("name", "path", "words"),
    [
        ("sam", "mask2former", r"holds no SamModel: it lacks .* and \d+ other weights"),
        ("mask_rcnn", "deeplabv3", "is no file of weights of maskrcnn_resnet50_fpn; give another"),
        ("deeplabv3", "mask_rcnn", "is no file of weights of deeplabv3_mobilenet_v3_large"),
    ],
)
def test_weights_of_another_method_are_refused(name, path, words, weights):
    with pytest.raises(InputError, match=words):
        open_peer(name, weights(path), head=EntityHead(), device=CPU, options=OPTIONS[name])


def test_names_that_torchvision_does_not_know_are_refused():
    common = {"head": EntityHead(), "device": CPU}
    with pytest.raises(InputError, match="weights=COCO_V9 is no file, nor of maskrcnn_resnet50_fpn what .*: COCO_V1"):
        open_peer("mask_rcnn", "COCO_V9", options={}, **common)
    with pytest.raises(InputError, match="torchvision has no model 'mask_net'; correct peer_options.model"):
        open_peer("mask_rcnn", "COCO_V1", options={"model": "mask_net"}, **common)


def test_a_task_that_a_peer_does_not_know_is_refused(weights):
    with pytest.raises(InputError, match="The peer sam knows the tasks entity, not semantic; choose another"):
        open_peer("sam", weights("sam"), head=SemanticHead(ENTITY), device=CPU, options={})


def test_other_classes_are_refused(weights, tmp_path, capsys):
    root = make_ade20k_tree(tmp_path / "set", photos=1, val=1)
    data = [f"data.root={root}", "data.dataset=ade20k", "+data.options.task=semantic"]
    assert main(["evaluate", *data, *arguments("deeplabv3", weights("deeplabv3"), tmp_path / "out")]) == 2
    sentence = "deeplabv3.pth has the size 3, but the semantic task of ade20k needs 150"
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sam", "mask2former"])
def test_a_missing_library_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    for module in (name, "_pretrained"):
        monkeypatch.delitem(sys.modules, f"entitytransfer.peers.{module}", raising=False)
    sentence = f"The peer {name} needs the package transformers; run `pip install 'cropformer\\[peers\\]'`"
    with pytest.raises(InputError, match=sentence):
        open_peer(name, "weights", head=EntityHead(), device=CPU, options={})
