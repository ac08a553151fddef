"""``entitytransfer launch``."""

import argparse
from pathlib import Path

from entitytransfer.commands.parsing import Commands, add_command, at_least


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "launch", _run, summary="run a command on many GPUs, here or through Slurm")
    processes = "processes of a machine (one for each GPU if left out)"
    parser.add_argument("--processes", type=at_least(1), metavar="N", help=processes)
    parser.add_argument("--slurm", action="store_true", help="queue a Slurm job, which goes on after a time limit")
    parser.add_argument("--nodes", type=at_least(1), default=1, metavar="N", help="machines of the job")
    parser.add_argument("--partition", metavar="NAME", help="partition of the job")
    parser.add_argument("--time-min", type=at_least(1), default=1440, metavar="N", help="time limit in minutes")
    parser.add_argument("--gpus-per-node", type=at_least(0), default=8, metavar="N", help="GPUs of each machine")
    parser.add_argument("--cpus-per-task", type=at_least(1), default=8, metavar="N", help="cores of each process")
    parser.add_argument("--name", default="entitytransfer", help="name of the job")
    logs = "folder for its output (outputs/launch/JOB)"
    parser.add_argument("--logs", type=Path, default=Path("outputs/launch/%j"), metavar="DIR", help=logs)
    parser.add_argument("--follow", action="store_true", help="print the output of the job until it ends")
    command = "-- and a command, such as: -- pretrain recipe=entityseg_1x data.root=DIR"
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help=command)


def _run(arguments: argparse.Namespace) -> int:
    from cropformer import InputError
    from entitytransfer.launch import SlurmOptions, describe_job, follow, launch_here, submit

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise InputError("nothing to launch; write a command after --, such as: launch -- pretrain data.root=DIR")
    if not arguments.slurm:
        if arguments.nodes > 1:
            raise InputError("several machines are started by Slurm; add --slurm, or run torchrun on each of them")
        return launch_here(command, processes=arguments.processes)
    options = SlurmOptions(
        nodes=arguments.nodes,
        processes=arguments.processes or max(1, arguments.gpus_per_node),
        gpus=arguments.gpus_per_node,
        cpus=arguments.cpus_per_task,
        time_min=arguments.time_min,
        partition=arguments.partition,
        name=arguments.name,
        logs=arguments.logs,
    )
    job = submit(command, options)
    print(describe_job(job, command), flush=True)
    return follow(job) if arguments.follow else 0
