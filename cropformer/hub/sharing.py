"""Sharing: a model as a folder that anyone can load, or as a repository on the hub, with a card to describe it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from torch import Tensor, nn

from ..architecture import Architecture, TestSettings
from ..checkpoint import save_checkpoint
from ..errors import InputError
from ..files import atomic_path
from .download import endpoint, no_space, reason, status

TAGS = ("entity-segmentation", "open-world", "pytorch")


class DescribedModel(Protocol):
    """A model that knows its own numbers, as ``EntitySegmenter`` does."""

    architecture: Architecture
    settings: TestSettings
    classes: dict[str, list[Any]] | None

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors by name."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """What was trained."""


def save_pretrained(
    model: DescribedModel,
    folder: str | Path,
    *,
    name: str | None = None,
    licence: str | None = None,
    metrics: Mapping[str, float] | None = None,
    datasets: Sequence[str] = (),
) -> None:
    """Write ``model.safetensors``, ``config.json`` and ``README.md``; see ``EntitySegmenter.save_pretrained``.

    Each file appears whole or not at all. The first alone is what ``load`` reads. ``name`` is how the card says to load
    it, "hf://owner/name"; None for the folder by its own name, so that the card tells nobody's paths.
    """
    folder = Path(folder)
    card = model_card(model, name=name or folder.resolve().name, licence=licence, metrics=metrics, datasets=datasets)
    config = {
        "library_name": "cropformer",
        "architecture": asdict(model.architecture),
        "settings": asdict(model.settings),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot make the folder {folder}: {error.strerror}; choose another place") from error
    weights = folder / "model.safetensors"
    numbers = {"architecture": model.architecture, "settings": model.settings}
    save_checkpoint(weights, model.state_dict(), **numbers, classes=model.classes)
    for file, text in (("config.json", json.dumps(config, indent=2) + "\n"), ("README.md", card)):
        with atomic_path(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")


def push_to_hub(
    model: DescribedModel,
    repo: str,
    *,
    private: bool = False,
    licence: str | None = None,
    metrics: Mapping[str, float] | None = None,
    datasets: Sequence[str] = (),
    token: str | None = None,
    message: str = "Upload model",
) -> str:
    """Upload a temporary ``save_pretrained``; see ``EntitySegmenter.push_to_hub``."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint(), token=token)
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        with TemporaryDirectory() as folder:
            name = f"hf://{url.repo_id}"
            save_pretrained(model, folder, name=name, licence=licence, metrics=metrics, datasets=datasets)
            api.upload_folder(repo_id=url.repo_id, folder_path=folder, commit_message=message)
    except InputError:
        raise
    except Exception as error:  # requests, httpx and hf_xet have no error in common
        raise InputError(_explain(error, repo)) from error
    return str(url)


def model_card(
    model: DescribedModel,
    *,
    name: str,
    licence: str | None = None,
    metrics: Mapping[str, float] | None = None,
    datasets: Sequence[str] = (),
) -> str:
    """Markdown with the hub's front matter: what the model is, its test settings, numbers and use."""
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        license=licence,
        library_name="cropformer",
        pipeline_tag="image-segmentation",
        tags=list(TAGS),
        datasets=list(datasets) or None,
    )
    sections = [f"---\n{data.to_yaml()}\n---", *_description(model, name), *_numbers(metrics or {})]
    return str(ModelCard("\n\n".join(sections) + "\n"))


def _description(model: DescribedModel, name: str) -> list[str]:
    a, s = model.architecture, model.settings
    kind = "Mask2Former" if a.association == "none" else "CropFormer"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    classes = "with no class list" if a.num_classes == 1 else f"each as one of {a.num_classes} classes"
    crops = f"{s.crops} crops of {s.crop_ratio:g} of the side" if s.crops else "no crops"
    return [
        f"# {name.rpartition('/')[2]}",
        f"{kind} finds every entity of a photo or clip with no prompt and {classes}.",
        "| | |\n|---|---|\n"
        f"| backbone | {a.backbone}: {_join(a.backbone_numbers)} |\n"
        f"| parameters | {parameters / 1e6:.1f} M, {a.num_queries} queries |\n"
        f"| test settings | short side {s.short_side}, long side at most {s.max_side}, {crops}, "
        f"scores from {s.min_score:g} |",
        "## Use",
        "```python\nimport cropformer\n\n"
        f'model = cropformer.load("{name}")\n'
        'entities = model.segment("photo.jpg")\n'
        'entities.save("photo.json")\n```',
    ]


def _join(numbers: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in numbers.items())


def _numbers(metrics: Mapping[str, float]) -> list[str]:
    rows = "".join(f"\n| {name} | {value:g} |" for name, value in metrics.items())
    return ["## Numbers", f"| metric | value |\n|---|---|{rows}"] if rows else []


def _explain(error: Exception, repo: str) -> str:
    """One sentence for what went wrong on the way to a repository."""
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{repo} cannot be uploaded to because HF_HUB_OFFLINE is set; unset it and try again"
    if isinstance(error, errors.HFValidationError):
        return f"{repo!r} is no name of a repository ({reason(error)}); write owner/name"
    if status(error) in (401, 403, 404):
        return f"{endpoint()} does not let you write to {repo}; run `hf auth login` with a token that has write access"
    if no_space(error):
        return f"No space left on the device while preparing the upload to {repo}; free some and try again"
    return f"{repo} could not be uploaded to on {endpoint()} ({reason(error)}); check the connection and try again"
