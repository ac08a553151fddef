"""One file for each dataset, found by its name; ``forkme.py`` is the template of another.

``read`` opens it, ``adapter`` joins that with the head and the metric of a task, ``examine`` says what is wrong.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from cropformer import InputError
from entitytransfer.adapter import Adapter
from entitytransfer.named_modules import named_module

__all__ = ["bind_function", "open_adapter", "open_dataset"]


def open_dataset(name: str) -> ModuleType:
    """The module of a dataset.

    Args:
        name: of a file in this folder, such as "entityseg", or the dotted path of a module anywhere else.

    Raises:
        InputError: there is no such module.
    """
    return named_module(name, package=__name__, kind="dataset")


def open_adapter(name: str, options: Mapping[str, Any]) -> Adapter:
    """The adapter of a dataset.

    Args:
        name: as in ``open_dataset``.
        options: of its ``read``; its ``adapter`` takes those that it knows, such as ``task``.

    Raises:
        InputError: there is no such module, it has no function ``adapter``, or there is no such task.
    """
    build = _function(name, "adapter")
    known = inspect.signature(build).parameters
    return build(**{key: value for key, value in options.items() if key in known})


def bind_function(settings: Mapping[str, str | bool], function: str) -> Callable[..., Any]:
    """The function of a dataset with the arguments that were typed after a command.

    Args:
        settings: ``dataset``, ``root``, and keyword arguments of that function.
        function: "read", "examine" or "prepare".

    Raises:
        InputError: ``dataset`` or ``root`` is not given, there is no such dataset or function, or it does not know
            one of the settings.
    """
    options = dict(settings)
    for needed in ("dataset", "root"):
        if needed not in options:
            raise InputError(f"Say {needed}=..., as in dataset=entityseg root=DIR.")
    name, root = str(options.pop("dataset")), Path(str(options.pop("root")))
    found = _function(name, function)
    known = [name for name in inspect.signature(found).parameters if name != "root"]
    for key in options:
        if key not in known:
            raise InputError(f"The dataset {name} has no setting {key}=; choose from {', '.join(known)}.")
    return partial(found, root, **options)


def _function(name: str, function: str) -> Callable[..., Any]:
    found = getattr(open_dataset(name), function, None)
    if found is None:
        raise InputError(f"The dataset {name} has no function {function}; add one to its module.")
    return found
