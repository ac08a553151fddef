"""Tasks: which head and which metric belong to a name that several datasets share."""

from collections.abc import Callable

from cropformer import InputError
from entitytransfer.adapter import Adapter, Evaluator, Head, SampleSet, labelled_masks
from entitytransfer.classes import Classes
from entitytransfer.evaluators.average_precision import AveragePrecision
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
