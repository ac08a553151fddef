"""Start weights by name: what the paper's four kinds of pretraining mean for a model, where they are public."""

from __future__ import annotations

from cropformer import PUBLISHED_WEIGHTS, InputError

_ENTITYSEG = {weights.architecture.removeprefix("cropformer_"): name for name, weights in PUBLISHED_WEIGHTS.items()}

# The Swin-B and Swin-L of Mask2Former's authors have window 12, and their Swin-L has 200 queries. A CropFormer that
# starts from one makes its association module anew.
_COCO_PANOPTIC = {
    model: f"hf://facebook/mask2former-swin-{size}-coco-panoptic/pytorch_model.bin"
    for size, backbones in {
        "tiny": ["swin_t"],
        "small": ["swin_s"],
        "base": ["swin_b", "swin_b_w12"],
        "large": ["swin_l", "swin_l_w12"],
    }.items()
    for backbone in backbones
    for model in (backbone, f"mask2former_{backbone}")
}

# The classifiers of the backbones' authors, as timm keeps them: of ImageNet-1k where there is no more, else of 22k.
_IMAGENET = {
    model: f"hf://timm/{classifier}/model.safetensors"
    for backbone, classifier in {
        "r50": "resnet50.tv_in1k",
        "swin_t": "swin_tiny_patch4_window7_224.ms_in1k",
        "swin_s": "swin_small_patch4_window7_224.ms_in1k",
        "swin_b": "swin_base_patch4_window7_224.ms_in22k",
        "swin_b_w12": "swin_base_patch4_window12_384.ms_in22k",
        "swin_l": "swin_large_patch4_window7_224.ms_in22k",
        "swin_l_w12": "swin_large_patch4_window12_384.ms_in22k",
    }.items()
    for model in (backbone, f"mask2former_{backbone}")
}

# Kind of pretraining: its public files by model, and what else a user can give.
_KINDS: dict[str, tuple[dict[str, str], str]] = {
    "entityseg": (_ENTITYSEG, "weights trained on EntitySeg, such as those of `entitytransfer pretrain`"),
    "coco_panoptic": (_COCO_PANOPTIC, "a Mask2Former trained on COCO panoptic, in any layout that `convert` reads"),
    "coco_entity": ({}, "weights trained on COCO's entities, such as those of `entitytransfer finetune`"),
    "imagenet": (_IMAGENET, "a classifier on this backbone, as torchvision, timm or its authors store it"),
}


def named_weights(init: str | None, *, model: str) -> str:
    """The weights that a name means: a name or an address that ``weights_path`` knows, or the path that it was.

    Args:
        init: "entityseg", "coco_panoptic", "coco_entity" or "imagenet" (a lone backbone); anything else stays.
        model: name of the model that they are for, as in ``named_architecture``.

    Raises:
        InputError: if nothing is named, or no public file is known.
    """
    if init is None:
        raise InputError(f"fine-tuning starts from weights; give init= {', '.join(_KINDS)}, nano, or a path")
    if init not in _KINDS:
        return init
    public, other = _KINDS[init]
    if model not in public:
        known = f"; public are those for model={', '.join(public)}" if public else ""
        raise InputError(f"no public init={init} for model={model} is known{known}; give init=PATH of {other}")
    return public[model]
