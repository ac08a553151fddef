"""The zoo: every model can be built, has the parameters it should have, and is read back off its shapes."""

import inspect

import pytest
import torch

import cropformer
from cropformer import InputError, zoo
from cropformer.architecture import infer_architecture

NAMES = list(zoo.ARCHITECTURES)
ASSOCIATION = 1_578_752
DECODER = {100: 16_037_890, 200: 16_089_090}  # queries to parameters, association module included
# Published models: all parameters, those of the backbone and those of the pixel decoder.
PUBLISHED = {
    "swin_t": (48_980_092, 27_520_698, 5_421_504),
    "swin_l": (216_826_198, 194_998_164, 5_790_144),
    "r50": (45_528_706, 23_454_912, 6_035_904),  # batch norm is frozen: its tensors are no parameters
    "hornet_l": (222_151_746, 200_272_512, 5_790_144),
}
# Width, depths, heads and window of every Swin.
SWINS = {
    "swin_t": (96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin_s": (96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    "swin_b": (128, (2, 2, 18, 2), (4, 8, 16, 32), 7),
    "swin_b_w12": (128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "swin_l": (192, (2, 2, 18, 2), (6, 12, 24, 48), 7),
    "swin_l_w12": (192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}


@pytest.fixture(scope="module")
def models() -> dict[str, cropformer.EntitySegmenter]:
    """Every model of the zoo, without memory for its weights."""
    with torch.device("meta"):
        return {name: cropformer.build_model(name) for name in NAMES}


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name, models):
    model = models[name]
    assert (count(model), count(model.backbone), count(model.pixel_decoder)) == PUBLISHED[name]
    decoder = count(model.query_decoder) + count(model.association)
    assert decoder == DECODER[model.architecture.num_queries]


def test_published_parameter_count_of_mask2former(models):
    assert count(models["mask2former_swin_t"]) == 47_401_340


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("mask2former_")])
def test_mask2former_lacks_the_association_module_and_nothing_else(name, models):
    cropformer_model = models[name.removeprefix("mask2former_")]
    assert models[name].association is None
    assert count(models[name]) == count(cropformer_model) - ASSOCIATION
    names = {key for key in cropformer_model.state_dict() if not key.startswith("association.")}
    assert models[name].state_dict().keys() == names


def swin_parameters(channels: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int) -> int:
    """Parameters of a Swin backbone, counted on paper."""
    total = 4 * 4 * 3 * channels + channels + 2 * channels  # patches: weight, bias, norm
    for i, (depth, head) in enumerate(zip(depths, heads)):
        c = channels * 2**i
        attention = (3 * c * c + 3 * c) + (c * c + c) + (2 * window - 1) ** 2 * head  # qkv, output, bias table
        mlp = (4 * c * c + 4 * c) + (4 * c * c + c)
        total += depth * (attention + mlp + 2 * (2 * c))  # two norms
        total += 2 * c  # the norm of the level
        total += 2 * c * 4 * c + 2 * 4 * c if i < 3 else 0  # merging: weight, norm
    return total


@pytest.mark.parametrize("name", SWINS)
def test_parameters_of_every_swin(name, models):
    model, channels = models[name], SWINS[name][0]
    assert count(model.backbone) == swin_parameters(*SWINS[name])
    # Only the 1x1 convolutions that read the four levels, (1 + 2 + 4 + 8) C channels to 256, know the backbone.
    assert count(model.pixel_decoder) == 5_421_504 + 15 * (channels - 96) * 256
    assert count(model) == count(model.backbone) + count(model.pixel_decoder) + DECODER[100]


def test_the_nano_has_the_parameters_of_its_card(models):
    assert count(models["nano"]) == 7_530_734


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_state_the_parameters(name, models):
    function = getattr(zoo, name, None) or getattr(zoo, f"cropformer_{name}")
    assert f" {count(models[name]) / 1e6:.1f} M parameters" in function.__doc__


@pytest.mark.parametrize("name", [name for name in NAMES if name != "nano"])
def test_architectures_are_read_off_their_shapes(name, models):
    shapes = {key: tuple(tensor.shape) for key, tensor in models[name].state_dict().items()}
    inferred, expected = infer_architecture(shapes, name), models[name].architecture
    assert inferred.backbone_config() == expected.backbone_config()
    assert vars(inferred) | {"backbone_numbers": None} == vars(expected) | {"backbone_numbers": None}


def test_every_model_function_is_listed():
    functions = {name for name, _ in inspect.getmembers(zoo, inspect.isfunction)}
    models = {name for name in functions if name.startswith(("cropformer_", "mask2former_"))}
    assert {name.removeprefix("cropformer_") for name in models} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_queries_and_classes_are_free(name):
    published = zoo.named_architecture(name)
    assert (published.num_queries, published.num_classes) == (200 if "hornet" in name else 100, 1)
    with torch.device("meta"):
        model = cropformer.build_model(name, num_queries=7, num_classes=5)
    assert model.query_decoder.query_features.weight.shape == (7, published.channels)
    assert model.query_decoder.class_head.weight.shape == (6, published.channels)
    assert (model.architecture.num_queries, model.architecture.num_classes) == (7, 5)


def test_the_name_of_the_method_may_be_left_out():
    assert zoo.named_architecture("cropformer_swin_b") == zoo.named_architecture("swin_b") == zoo.cropformer_swin_b()


@pytest.mark.parametrize("name", ["huge", "", "cropformer_", "Swin_T", "mask2former"])
def test_unknown_models_are_listed(name):
    with pytest.raises(InputError) as raised:
        cropformer.build_model(name)
    assert str(raised.value) == f"there is no model {name!r}; the models are {', '.join(NAMES)}"
