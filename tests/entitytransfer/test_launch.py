"""Launching: exit codes through torchrun, what Slurm is asked for, and a job that submitit runs on this machine."""

import json
import os
import sys
from pathlib import Path

import pytest

import cropformer
from cropformer import InputError
from entitytransfer.cli import main
from entitytransfer.launch import SlurmOptions, Task, follow, launch_here, submit

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"
QUICK = ["data.short_sides=[64]", "data.max_side=96", "data.workers=0", "loss.points=32", "batch.at_once=1"]
RUN = ["model=nano", f"data.root={TINY}", *QUICK, "trainer.accelerator=cpu", "trainer.precision=32-true"]


def test_the_exit_code_of_the_command_is_passed_on(tmp_path, capfd):
    assert main(["launch", "--processes", "1", "--", "pretrain", "data.root=/nowhere", f"out={tmp_path}"]) == 2
    assert "/nowhere" in capfd.readouterr().err


SHARE = """#!/bin/sh
sleep 0.$((RANK * 2))
for out in "$@"; do :; done
touch "$out/$RANK-of-$WORLD_SIZE-on-$LOCAL_RANK"
exit $((2 - RANK))
"""


def test_a_share_that_fails_stops_no_other(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(SHARE)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    (tmp_path / "out").mkdir()
    assert launch_here(["segment", "a.mp4", "--out", str(tmp_path / "out")], processes=3) == 2
    done = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert done == ["0-of-3-on-0", "1-of-3-on-1", "2-of-3-on-2"]


@pytest.mark.slow
def test_two_processes_train_and_one_of_them_writes(tmp_path):
    options = [*RUN, "batch.total=2", "trainer.max_steps=1", f"out={tmp_path}"]
    assert main(["launch", "--processes", "2", "--", "pretrain", *options]) == 0
    assert cropformer.load(tmp_path / "weights.safetensors").settings.crops == 4
    (start,) = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert start["config"]["batch"] == {"total": 2, "at_once": 1}


def test_something_must_be_launched(capsys):
    assert main(["launch", "--slurm"]) == 2
    assert "nothing to launch" in capsys.readouterr().err


def test_several_machines_need_slurm(capsys):
    assert main(["launch", "--nodes", "2", "--", "pretrain"]) == 2
    assert "add --slurm" in capsys.readouterr().err


# --- Slurm


@pytest.fixture
def sbatch(tmp_path, monkeypatch) -> Path:
    """A Slurm that notes the script it is given."""
    folder, script = tmp_path / "bin", tmp_path / "script.sh"
    folder.mkdir()
    (folder / "sbatch").write_text(f'#!/bin/sh\ncp "$1" {script}\necho Submitted batch job 4711\n')
    (folder / "srun").write_text("#!/bin/sh\n")
    for program in folder.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return script


def test_slurm_is_asked_for_one_task_for_each_gpu(sbatch, tmp_path, capsys):
    asked = ["--nodes", "2", "--gpus-per-node", "4", "--cpus-per-task", "6", "--time-min", "90", "--partition", "big"]
    logs = tmp_path / "logs" / "%j"
    command = ["pretrain", "recipe=entityseg_1x", "data.root=/data"]
    assert main(["launch", "--slurm", *asked, "--name", "full", "--logs", str(logs), "--", *command]) == 0
    said = capsys.readouterr().out
    assert "job 4711: entitytransfer pretrain recipe=entityseg_1x data.root=/data" in said
    assert str(tmp_path / "logs" / "4711") in said
    options = {line.removeprefix("#SBATCH --") for line in sbatch.read_text().splitlines() if "#SBATCH" in line}
    wanted = {"nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "cpus-per-task=6", "time=90", "partition=big"}
    assert wanted | {"job-name=full"} <= options
    assert any(option.startswith("signal=USR2@") for option in options)  # a warning before the time is up


def test_a_machine_without_slurm_is_told(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["launch", "--slurm", "--", "pretrain"]) == 2
    assert "this machine has no srun" in capsys.readouterr().err


def test_slurm_needs_submitit(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"pip install cropformer\[slurm\]"):
        submit(["pretrain"], SlurmOptions())


@pytest.mark.slow
def test_a_queued_job_runs_the_command_and_tells_of_its_end(tmp_path, capsys):
    options = SlurmOptions(processes=1, gpus=0, logs=tmp_path / "%j", time_min=5)
    job = submit(["pretrain", "data.root=/nowhere", f"out={tmp_path}"], options, cluster="local")
    assert follow(job, every_s=0.1) == 1
    assert "/nowhere" in capsys.readouterr().err


@pytest.mark.slow
def test_the_processes_of_a_job_find_each_other(tmp_path, capsys):
    options = SlurmOptions(processes=2, gpus=0, logs=tmp_path / "%j", time_min=5)
    job = submit(["pretrain", "--dry-run", *RUN, "batch.total=2"], options, cluster="local")
    assert follow(job, every_s=0.1) == 0
    assert "dry run: " in capsys.readouterr().out


def test_a_job_that_is_queued_again_runs_the_same_command():
    task = Task(["pretrain", "out=x"])
    again = task.checkpoint()
    assert again.function is task
    assert again.args == ()


def test_a_job_that_is_queued_again_tells_segment_to_resume():
    again = Task(["segment", "a.mp4", "--out", "x"]).checkpoint().function
    assert again.command == ("segment", "--resume", "a.mp4", "--out", "x")
    assert again.checkpoint().function is again
