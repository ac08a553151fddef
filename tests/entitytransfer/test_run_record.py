"""The record of a run: one entry for each start, with what is needed to make the run again."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cropformer import InputError
from entitytransfer.training.run_record import git_state, machine, save_run_record


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def starts(folder: Path) -> list[dict]:
    return json.loads((folder / "run.json").read_text())["starts"]


def test_every_start_is_kept_with_its_settings(tmp_path):
    save_run_record(tmp_path, {"seed": 0})
    save_run_record(tmp_path, {"seed": 1})
    first, second = starts(tmp_path)
    assert (first["config"], second["config"]) == ({"seed": 0}, {"seed": 1})
    assert second["time"] >= first["time"]
    assert second["versions"]["torch"] == torch.__version__
    assert second["versions"]["numpy"] == np.__version__
    assert second["versions"].keys() == {"python", "torch", "lightning", "numpy", "cropformer"}
    assert second["command"] == sys.argv


def test_a_damaged_record_is_refused_and_kept(tmp_path):
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(InputError, match=r"run.json is not the record of a run; move it away"):
        save_run_record(tmp_path, {})
    assert (tmp_path / "run.json").read_text() == "[]"


def test_commit_and_changes_of_the_source_tree(tmp_path):
    git(tmp_path, "init", "-q")
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("1")
    assert git_state(package) is None  # somewhere inside a repository, but no part of it
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    assert git_state(package) == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    (package / "a.py").write_text("2")
    assert git_state(package)["dirty"]


def test_no_repository_no_commit(tmp_path):
    assert git_state(tmp_path) is None


def test_the_machine_is_described_without_its_name(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    facts = machine()
    assert facts["processes"] == 8
    assert facts["cpu"]
    assert len(facts["gpus"]) == torch.cuda.device_count()
