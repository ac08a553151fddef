"""The whole of it at once: what is trained on four photos segments these four photos."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cropformer import Optimisation, SetLoss, TestSettings, named_architecture
from entitytransfer.pretrain import pretrain
from entitytransfer.set_source import SetSource
from entitytransfer.training.engine import LoopOptions
from entitytransfer.training.loaders import DataOptions
from entitytransfer.training.run import TrainingRun
from entitytransfer.training.sampling import BatchSize

PHOTOS = Path(__file__).parents[1] / "data" / "coco_tiny"
LEAST_AREA = 1000  # pixels of 240x160; for less, a CPU would need larger inputs than it has time for


@pytest.fixture
def photos(tmp_path) -> SetSource:
    """Four photos with their larger entities."""
    root = tmp_path / "photos"
    shutil.copytree(PHOTOS, root)
    content = json.loads((root / "panoptic.json").read_text())
    for annotation in content["annotations"]:
        annotation["segments_info"] = [s for s in annotation["segments_info"] if s["area"] >= LEAST_AREA]
    (root / "panoptic.json").write_text(json.dumps(content))
    return SetSource(str(root), options={"panoptic": "panoptic.json"})


@pytest.mark.slow
def test_four_photos_are_learned_by_heart(tmp_path, photos):
    """Sampling, cutting, matching, losses, schedule, fusion and AP^e agree on what an entity is."""
    torch.set_num_threads(1)
    run = TrainingRun(
        settings=TestSettings(short_side=224, max_side=448, crops=0, min_score=0.05),
        data=DataOptions(
            (photos,),
            validation=photos,
            batch=BatchSize(4, 4),
            short_sides=(224,),
            max_side=448,
            crops=0,
            workers=0,
            feature_cache=str(tmp_path / "features"),
        ),
        loss=SetLoss(points=1024),
        optimisation=Optimisation(lr=1e-3, backbone_lr_factor=0, warmup_steps=20, max_steps=400),
        loop=LoopOptions(accelerator="cpu", validate_every=400),
        out=tmp_path / "run",
    )
    pretrain(named_architecture("nano"), run, init="nano")
    events = EventAccumulator(str(tmp_path / "run" / "log"))
    events.Reload()
    assert events.Scalars("val/AP")[-1].value > 0.9
