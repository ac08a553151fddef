"""Image in, entities out: a CropFormer that makes its own views and fuses its own queries."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from .entities import Entities
from .errors import InputError
from .frame_queries import Source
from .fusion import Compat, fuse
from .hub.sharing import push_to_hub, save_pretrained
from .image_predictor import ImagePredictor
from .images import ImageLike
from .memory import parse_memory
from .precision import Precision


class EntitySegmenter(ImagePredictor):
    """CropFormer with the five-line user interface; its arguments are those of ``ImagePredictor``."""

    def segment(
        self,
        image: ImageLike,
        *,
        crops: int | None = None,
        short_side: int | None = None,
        max_side: int | None = None,
        crop_ratio: float | None = None,
        min_score: float | None = None,
        source: Source = "B-OC",
        compat: Compat = None,
        overlap: bool = False,
        max_memory: str | int | None = None,
        precision: Precision = "fp32",
    ) -> Entities:
        """Every entity of one image.

        Args:
            image: path, PIL image, uint8 RGB array [H,W,3] or uint8 tensor [3,H,W].
            crops: 0 for the full view alone, 4 for the paper's corner crops.
            short_side: length of the short side of every view.
            max_side: bound on the long side.
            crop_ratio: side of a crop over the side of the image (Table 9a).
            min_score: entities below it are left out.
            source: which predictions are fused (Table 8b): those of the Batch or the Image decoder, of the Original
                view, the Crops, or both. Without crops there is only the image decoder's answer for the original.
            compat: "official" for the published pipeline's choices, see ``fuse``.
            overlap: let masks overlap, for recall; otherwise each pixel belongs to one entity at most.
            max_memory: bound on what network and fusion need beside the weights and the result, such as "2GB",
                "1.5GiB" or a number of bytes. On a CPU the result does not depend on it, on an accelerator only by
                rounding. Where one image needs more, a warning says so and the least possible is taken.
            precision: "bf16" makes matrix products faster on hardware that knows it. Masks of the bundled
                model then differ in up to one pixel of a hundred, entities in up to five.

        Returns:
            Entities, best score first.

        Raises:
            InputError: if the image cannot be read or is not RGB, or the crops, the source, the bound or the
                precision make no sense.
        """
        return self.segment_batch(
            [image],
            crops=crops,
            short_side=short_side,
            max_side=max_side,
            crop_ratio=crop_ratio,
            min_score=min_score,
            source=source,
            compat=compat,
            overlap=overlap,
            max_memory=max_memory,
            precision=precision,
        )[0]

    def segment_batch(
        self,
        images: Sequence[ImageLike],
        *,
        crops: int | None = None,
        short_side: int | None = None,
        max_side: int | None = None,
        crop_ratio: float | None = None,
        min_score: float | None = None,
        source: Source = "B-OC",
        compat: Compat = None,
        overlap: bool = False,
        max_memory: str | int | None = None,
        precision: Precision = "fp32",
    ) -> list[Entities]:
        """Every entity of each image; arguments as in ``segment``, batches as in ``predict``."""
        if source == "B-C" and (self.settings.crops if crops is None else crops) == 0:
            raise InputError("source B-C fuses the crops alone, and crops=0 leaves none; use crops=4 or another source")
        bound = parse_memory(max_memory)
        options = {"source": source, "compat": compat, "overlap": overlap, "max_memory": bound}
        return self.predict(
            images,
            partial(fuse, min_score=self._min_score(min_score, compat), **options),
            crops=crops,
            short_side=short_side,
            max_side=max_side,
            crop_ratio=crop_ratio,
            max_memory=bound,
            precision=precision,
        )

    def segment_clip(
        self,
        frames: Sequence[np.ndarray],
        *,
        crops: int = 0,
        short_side: int | None = None,
        max_side: int | None = None,
        crop_ratio: float | None = None,
        min_score: float | None = None,
        source: Source = "B-OC",
        overlap: bool = False,
        max_memory: str | int | None = None,
        precision: Precision = "fp32",
    ) -> list[Entities]:
        """Every entity of a few consecutive frames, uint8 RGB [H,W,3] each, with queries shared by the frames.

        Arguments and errors as in ``segment``; ``crops`` are those of each frame, by default none.

        Returns:
            One result for each frame; equal ``query_ids`` mean the same entity, but for the source "I-O", where
            each frame has queries of its own.
        """
        bound = parse_memory(max_memory)
        options = {"min_score": self._min_score(min_score), "source": source, "overlap": overlap}
        return self.predict_clip(
            frames,
            partial(fuse, max_memory=bound, **options),
            crops=crops,
            short_side=short_side,
            max_side=max_side,
            crop_ratio=crop_ratio,
            max_memory=bound,
            precision=precision,
        )

    def _min_score(self, given: float | None, compat: Compat = None) -> float:
        """The threshold to use: the published pipeline has none."""
        return 0.0 if compat else self.settings.min_score if given is None else given

    def with_openvino_backbone(self, *, precision: Precision = "fp32") -> EntitySegmenter:
        """The same model with its backbone run by OpenVINO on the CPU, for inference; weights are shared.

        Args:
            precision: "bf16" is faster still on processors that know it.

        Raises:
            InputError: if the package is missing, or there is no such precision.
        """
        from .backbones.openvino import OpenVINOBackbone

        return self._with_backbone(OpenVINOBackbone(self.backbone, precision=precision))

    def compiled(self, *, max_sizes: int = 4) -> EntitySegmenter:
        """The same model with its backbone compiled by ``torch.compile``, for inference; weights are shared.

        Args:
            max_sizes: how many canvas sizes are compiled, first come first served; others stay eager, so that a
                folder of mixed sizes does not compile for each image. Without a compiler everything stays eager.
        """
        from .backbones.compiled import CompiledBackbone

        return self._with_backbone(CompiledBackbone(self.backbone, max_sizes=max_sizes))

    def _with_backbone(self, backbone: nn.Module) -> EntitySegmenter:
        model = copy.copy(self)
        model._modules = self._modules | {"backbone": backbone}
        return model

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        licence: str | None = None,
        metrics: Mapping[str, float] | None = None,
        datasets: Sequence[str] = (),
    ) -> None:
        """Write the weights, their configuration for human eyes, and a model card; ``load(folder)`` reads them back.

        Args:
            folder: made if it is missing; earlier files of the same names are replaced.
            licence: of the weights, as the hub names it, such as "apache-2.0"; None leaves it unsaid.
            metrics: numbers for the card, by name.
            datasets: what the model was trained on, as the hub names it.

        Raises:
            InputError: if the folder cannot be written or the disk is full.
        """
        save_pretrained(self, folder, licence=licence, metrics=metrics, datasets=datasets)

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool = False,
        licence: str | None = None,
        metrics: Mapping[str, float] | None = None,
        datasets: Sequence[str] = (),
        token: str | None = None,
        message: str = "Upload model",
    ) -> str:
        """Upload what ``save_pretrained`` writes; ``load("hf://owner/name")`` reads it back.

        Args:
            repo: "owner/name" on the Hugging Face hub, made if it is missing.
            private: whether a new repository is shown to its owner alone.
            licence: see ``save_pretrained``.
            metrics: likewise.
            datasets: likewise.
            token: one with write access; None for that of ``hf auth login``.
            message: of the commit.

        Returns:
            The address of the repository's page.

        Raises:
            InputError: if the hub cannot be reached or does not let this user write there.
        """
        return push_to_hub(
            self,
            repo,
            private=private,
            licence=licence,
            metrics=metrics,
            datasets=datasets,
            token=token,
            message=message,
        )
