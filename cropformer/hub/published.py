"""Published weights: the authors' files by name, with where they lie, their licence and the accuracy they report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .download import HubFile, download

_REPO = "qqlu1992/Adobe_EntitySeg"
_REVISION = "143d5e7e2880dcf3df2df6570984143c2e9a9b45"


@dataclass(frozen=True)
class PublishedWeights:
    """One published file.

    Attributes:
        name: what ``load`` takes: the published folder in lower case.
        file: where it lies, at a pinned revision. The repository is gated: its conditions have to be accepted once.
        architecture: the same model in ``cropformer.zoo``.
        average_precision_low: AP^e that the authors report on the images reduced to a short side of 800.
        average_precision_high: the same on the full images.
        dataset: what it was trained on.
        licence: of the weights, not of our code; reading the file tells it.
        sha256: of its content; None where it is not known to us: then the hash that the hub states is checked.
    """

    name: str
    file: HubFile
    architecture: str
    average_precision_low: float
    average_precision_high: float
    dataset: str = "EntitySeg"
    licence: str = "CC BY-NC 4.0"
    sha256: str | None = None


def _weights(folder: str, digest: str, architecture: str, low: float, high: float) -> PublishedWeights:
    path = f"CropFormer_model/Entity_Segmentation/{folder}/{folder}_{digest}.pth"
    file = HubFile(_REPO, path, _REVISION, repo_type="dataset")
    return PublishedWeights(folder.lower(), file, architecture, low, high)


# The digests are part of the published file names. AP^e from the README of the published code.
PUBLISHED_WEIGHTS: dict[str, PublishedWeights] = {
    weights.name: weights
    for weights in (
        _weights("CropFormer_swin_tiny_3x", "5cea5e", "cropformer_swin_t", 0.406, 0.430),
        _weights("CropFormer_swin_large_w7_3x", "6843ef", "cropformer_swin_l", 0.458, 0.482),
        _weights("CropFormer_hornet_3x", "03823a", "cropformer_hornet_l", 0.491, 0.515),
        _weights("Mask2Former_swin_tiny_3x", "3cacfb", "mask2former_swin_t", 0.388, 0.407),
        _weights("Mask2Former_swin_large_w7_3x", "dd4543", "mask2former_swin_l", 0.444, 0.462),
        _weights("Mask2Former_hornet_3x", "576d0b", "mask2former_hornet_l", 0.471, 0.492),
    )
}


def is_remote(weights: str) -> bool:
    """Whether ``fetch_weights`` knows what ``weights`` names."""
    return weights in PUBLISHED_WEIGHTS or weights.startswith("hf:/")


def fetch_weights(weights: str) -> Path:
    """The checked local copy of published weights by name, or of an ``hf://`` address; errors as in ``download``."""
    published = PUBLISHED_WEIGHTS.get(weights)
    if published is None:
        return download(HubFile.parse(weights))
    return download(published.file, sha256=published.sha256)
