"""Tasks: which head and which metric belong to a name that several datasets share."""

from collections.abc import Callable
from functools import partial

from cropformer import InputError
from entitytransfer.adapter import Adapter, Evaluator, Head, SampleSet, labelled_masks
from entitytransfer.classes import Classes
from entitytransfer.clip_heads import ClipEntityHead, ClipInstanceHead, ClipPanopticHead
from entitytransfer.clip_sample import labelled_tracks
from entitytransfer.evaluators.average_precision import AveragePrecision
from entitytransfer.evaluators.clip_results import ClipPanopticResults, TrackResults
from entitytransfer.evaluators.dichotomous_results import DichotomousResults
from entitytransfer.evaluators.panoptic_results import PanopticResults
from entitytransfer.evaluators.recall_results import RecallResults
from entitytransfer.evaluators.semantic_results import SemanticResults
from entitytransfer.heads import DichotomousHead, EntityHead, InstanceHead, PanopticHead, SemanticHead


def task_adapter(task: str, read: Callable[..., SampleSet]) -> Adapter:
    """The adapter of a dataset whose samples need no treatment of their own.

    Args:
        task: "entity" (AP^e), "recall" (zero-shot AR@k), "instance", "panoptic", "semantic" or "dichotomous".
        read: how the dataset is read.

    Raises:
        InputError: there is no such task.
    """
    build_head, build_evaluator = _parts(task)
    return Adapter(read, labelled_masks, build_head, build_evaluator)


def clip_task_adapter(task: str, read: Callable[..., SampleSet], *, top_k: int = 10) -> Adapter:
    """The adapter of a dataset of clips whose samples need no treatment of their own.

    Args:
        task: "entity" (AP of tracks that share no pixel), "instance" (AP of tracks) or "panoptic" (VPQ and STQ).
        read: how the dataset is read.
        top_k: how many results an instance head keeps for a clip.

    Raises:
        InputError: there is no such task.
    """
    match task:
        case "entity":
            return Adapter(read, labelled_tracks, ClipEntityHead, lambda _: TrackResults())
        case "instance":
            return Adapter(read, labelled_tracks, partial(ClipInstanceHead, top_k=top_k), TrackResults)
        case "panoptic":
            return Adapter(read, labelled_tracks, ClipPanopticHead, ClipPanopticResults)
    raise InputError(f"There is no task {task!r} for clips; choose entity, instance or panoptic.")


def _parts(task: str) -> tuple[Callable[[Classes], Head], Callable[[Classes], Evaluator]]:
    match task:
        case "entity":
            return EntityHead, lambda _: AveragePrecision()
        case "recall":
            return EntityHead, lambda _: RecallResults()
        case "instance":
            return InstanceHead, AveragePrecision
        case "panoptic":
            return PanopticHead, PanopticResults
        case "semantic":
            return SemanticHead, SemanticResults
        case "dichotomous":
            return DichotomousHead, lambda _: DichotomousResults()
    raise InputError(f"There is no task {task!r}; choose entity, recall, instance, panoptic, semantic or dichotomous.")
