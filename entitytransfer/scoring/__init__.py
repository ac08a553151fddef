"""The tasks of ``entitytransfer score``: one file each, found by its name; there is no list to add to.

A task is a file ``scoring/NAME.py`` with one public function::

    def score(
        *, ground_truth: Path, predictions: Path, gt_dir: Path | None = None, bootstrap: int = 0, seed: int = 0
    ) -> Score: ...

- Its keyword-only arguments are the task's options, and their defaults its default protocol. The command hands
  over what was typed and nothing else; an option that the function does not have is refused by the frame
  (``score_task.py``). The flag of an option is declared once, in ``commands/score.py``; the frame turns
  ``--num-classes`` into ``num_classes``.
- It checks its input, raises ``cropformer.InputError`` with one sentence that names file and record, and returns a
  frozen `scorecard.Score`. Undefined values (-1 or nan in the official tool) may be left as nan or given as
  None. `Score.protocol` names every choice that was made, in JSON values.
- Reading lives in ``readers/``, measures live in ``evaluators/``, so that the task file only joins them.
- ``bootstrap`` is the number of resamplings; `evaluation.bootstrap.percentile_intervals` draws them and gives
  `Score.intervals`. A task without these two arguments simply has no bootstrap.

Variants of a task are tasks of their own and call its function: ``uvo.py`` is ``ytvis.py`` with one class.
"""
