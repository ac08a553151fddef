"""Modules by name: files of a folder, or dotted paths of modules anywhere else; there is no list to register in."""

import importlib
from pathlib import Path
from types import ModuleType

from cropformer import InputError


def named_module(name: str, *, package: str, kind: str) -> ModuleType:
    """The module that a name means.

    Args:
        name: of a file in the folder of the package, or the dotted path of a module anywhere else.
        package: dotted path of the folder.
        kind: what its modules are, for the error.

    Raises:
        InputError: there is no such module.
        ModuleNotFoundError: it is there, but something that it needs is not.
    """
    path = name if "." in name else f"{package}.{name}"
    try:
        if not all(part.isidentifier() for part in path.split(".")):
            raise ModuleNotFoundError(name=path)
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if not f"{path}.".startswith(f"{error.name}."):
            raise
        known = ", ".join(_files(importlib.import_module(package)))
        raise InputError(
            f"There is no {kind} {name!r}; choose one of {known}, or give the dotted path of a module of yours."
        ) from error


def _files(package: ModuleType) -> list[str]:
    """The names in the folder of a package; those with an underscore are for its own use."""
    return sorted(file.stem for folder in package.__path__ for file in Path(folder).glob("[!_]*.py"))
