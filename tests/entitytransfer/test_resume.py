"""Runs that are killed and go on: they end as if nothing had happened, with as many processes as there are then."""

import signal
from pathlib import Path

import pytest
import torch

import cropformer
from entitytransfer.training.engine import last_checkpoint, steps_behind

from . import tiny_run

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, torch.Tensor]:
    """Weights of a run that nothing interrupted."""
    return weights(tiny_run.run(tmp_path_factory.mktemp("whole")))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return cropformer.read_checkpoint(path).state


def assert_equal(ours: dict[str, torch.Tensor], whole: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == whole.keys()
    assert [name for name, tensor in ours.items() if not torch.equal(tensor, whole[name])] == []


@pytest.mark.parametrize(("step", "kept"), [(4, 2), (5, 4)])
def test_a_killed_run_ends_with_the_same_bits(tmp_path, whole, step, kept):
    """With averaged weights, stochastic depth, and a validation on the way."""
    assert tiny_run.run_apart(tmp_path, f"--kill-at-step={step}") == KILLED
    assert steps_behind(last_checkpoint(tmp_path)) == kept
    assert_equal(weights(tiny_run.run(tmp_path)), whole)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, whole):
    assert tiny_run.run_apart(tmp_path, "--kill-in-checkpoint=2") == KILLED
    folder = last_checkpoint(tmp_path).parent
    assert len(list(folder.iterdir())) == 2  # the checkpoint, and the half one under another name
    assert steps_behind(last_checkpoint(tmp_path)) == 2
    assert_equal(weights(tiny_run.run(tmp_path)), whole)
    assert list(folder.iterdir()) == [last_checkpoint(tmp_path)]


def test_a_checkpoint_is_a_model_with_the_averaged_weights(tmp_path, whole):
    tiny_run.run(tmp_path)
    assert_equal(weights(last_checkpoint(tmp_path)), whole)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 2)])
def test_another_number_of_processes_goes_on_with_the_same_step(tmp_path, whole, before, after):
    """Four groups of a step in one process, or two in each of two: equal up to the order of sums.

    Six steps move a weight by up to 6e-3; what Adam makes of sums in another order was measured to be 8e-6.
    """
    assert tiny_run.run_apart(tmp_path, "--kill-at-step=4", processes=before) != 0
    assert steps_behind(last_checkpoint(tmp_path)) == 2
    assert tiny_run.run_apart(tmp_path, processes=after) == 0
    for name, tensor in weights(tmp_path / "weights.safetensors").items():
        torch.testing.assert_close(tensor, whole[name], rtol=0, atol=5e-5)
