"""Training that is validated on whole clips, window by window, as they are segmented later."""

from typing import Any

from cropformer import EntitySegmenter, EntityTraining, Optimisation, SetLoss
from entitytransfer.adapter import Evaluator
from entitytransfer.clip_heads import ClipHead
from entitytransfer.clip_result import ClipResult
from entitytransfer.clip_sample import ClipSample
from entitytransfer.evaluation.clips import gather_clip
from entitytransfer.video import VideoSegmenter


class ClipTraining(EntityTraining):
    """`EntityTraining` whose validation samples are clips; the numbers are those of ``evaluate`` with its defaults.

    A plain Mask2Former, which cannot see several frames together, is validated frame by frame.

    Args:
        model: what is trained.
        loss: see `EntityTraining`.
        optimisation: likewise.
        head: what the queries mean in a clip.
        evaluator: judge of the tracks.
    """

    def __init__(
        self,
        model: EntitySegmenter,
        *,
        loss: SetLoss,
        optimisation: Optimisation,
        head: ClipHead,
        evaluator: Evaluator,
    ) -> None:
        super().__init__(model, loss=loss, optimisation=optimisation, evaluator=evaluator)
        windows = {} if model.association is not None else {"window": 1, "overlap": 0}
        self.segmenter = VideoSegmenter(model, head=head, crops=model.settings.crops, **windows)

    def validation_step(self, clip: ClipSample, _: int) -> ClipResult:
        """Segment a clip and hand its tracks to the evaluator; callbacks see them too."""
        result = gather_clip(self.segmenter.segment(clip))
        self.evaluator.update(result, clip)
        return result

    def transfer_batch_to_device(self, batch: Any, *_: Any) -> Any:
        """Leave all where it is: groups of a step and windows of a clip move when they are needed."""
        return batch
