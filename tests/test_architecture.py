"""The shape of the house: which way imports point, who may use what, and how long and how well signed things are."""

import ast
import graphlib
import importlib
import statistics
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE, TRANSFER = ROOT / "cropformer", ROOT / "entitytransfer"
SCRIPTS = [ROOT / name for name in ("configs", "tools", "benchmarks")]
CONFIG_LIBRARIES = {"hydra", "omegaconf"}
CONFIG_FILES = {"cli.py", "config.py"}
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error")
MAX_FILE_LINES, MAX_FUNCTION_LINES, MEDIAN_FUNCTION_LINES = 300, 60, 12


def sources(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def files(*folders: Path) -> pytest.MarkDecorator:
    """One test for each file, named after it."""
    paths = sources(*folders)
    return pytest.mark.parametrize("path", paths, ids=[path.relative_to(ROOT).as_posix() for path in paths])


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imports(tree: ast.Module) -> list[tuple[str, str | None]]:
    """Every absolute import of a file, wherever it stands: module, and the name taken from it or None."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [(node.module, alias.name) for alias in node.names]
    return found


def relative_imports(path: Path) -> list[str]:
    """The modules that the relative imports of a file point to, as absolute dotted names."""
    package = path.relative_to(ROOT).parent.parts
    nodes = [node for node in ast.walk(parse(path)) if isinstance(node, ast.ImportFrom) and node.level]
    return [".".join((*package[: len(package) - node.level + 1], node.module or "")) for node in nodes]


def functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def length(function: ast.FunctionDef) -> int:
    """Lines from the first statement after the docstring to the end."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def public(tree: ast.Module) -> list[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes of a file, and the public methods of these classes."""
    found = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            found.append(node)
            members = node.body if isinstance(node, ast.ClassDef) else []
            found += [m for m in members if isinstance(m, ast.FunctionDef) and not m.name.startswith("_")]
    return found


@files(CORE)
def test_the_core_knows_neither_the_house_above_nor_configuration(path: Path):
    tops = {module.split(".")[0] for module, _ in imports(parse(path))}
    assert not tops & (CONFIG_LIBRARIES | {"entitytransfer", "configs"})
    assert all(module.startswith("cropformer") for module in relative_imports(path))


@files(TRANSFER)
def test_the_transfer_package_uses_exported_names_only(path: Path):
    exported = set(importlib.import_module("cropformer").__all__)
    used = [(module, name) for module, name in imports(parse(path)) if module.split(".")[0] == "cropformer"]
    assert [(module, name) for module, name in used if module != "cropformer" or name not in exported] == []
    assert all(module.startswith("entitytransfer") for module in relative_imports(path))


def test_arrows_between_files_of_the_core_never_turn_back():
    """Imports for types alone are counted too; the package itself is left out, as it only gathers names."""
    arrows: dict[str, set[str]] = {}
    for path in sources(CORE):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        arrows[module] = set(relative_imports(path)) - {"cropformer."}
    graphlib.TopologicalSorter(arrows).prepare()  # raises CycleError, which names the files


def test_arrows_between_rooms_never_turn_back():
    """A room is a folder, or a file beside the folders; `launch` is left out, as it starts the command line anew."""
    arrows: dict[str, set[str]] = {}
    for path in sources(TRANSFER):
        room = path.relative_to(TRANSFER).parts[0].removesuffix(".py")
        modules = [module.split(".") for module, _ in imports(parse(path))]
        others = {parts[1] for parts in modules if parts[0] == "entitytransfer" and len(parts) > 1}
        arrows.setdefault(room, set()).update(others - {room, "launch"})
    graphlib.TopologicalSorter(arrows).prepare()  # raises CycleError, which names the rooms


@files(CORE, TRANSFER)
def test_configuration_libraries_stay_in_their_files(path: Path):
    tops = {module.split(".")[0] for module, _ in imports(parse(path))}
    allowed = path.parent == TRANSFER and path.name in CONFIG_FILES
    assert allowed or not tops & CONFIG_LIBRARIES


@files(CORE, TRANSFER, *SCRIPTS)
def test_no_star_import(path: Path):
    stars = [
        node for node in ast.walk(parse(path)) if isinstance(node, ast.ImportFrom) for a in node.names if a.name == "*"
    ]
    assert not stars


def test_everything_exported_exists_and_is_named_in_order():
    for package in ("cropformer", "entitytransfer"):
        module = importlib.import_module(package)
        names = getattr(module, "__all__", [])
        assert [name for name in names if not hasattr(module, name)] == []
        assert len(set(names)) == len(names)


@files(CORE, TRANSFER, *SCRIPTS)
def test_files_and_functions_are_short(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    assert {f.name: length(f) for f in functions(parse(path)) if length(f) > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("folder", [CORE, TRANSFER], ids=lambda folder: folder.name)
def test_the_typical_function_is_short(folder: Path):
    lengths = [length(function) for path in sources(folder) for function in functions(parse(path))]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION_LINES


@files(CORE, TRANSFER, *SCRIPTS)
def test_everything_public_says_what_it_is(path: Path):
    tree = parse(path)
    assert ast.get_docstring(tree) or not tree.body
    assert [node.name for node in public(tree) if not ast.get_docstring(node)] == []


@files(CORE, TRANSFER)
def test_every_signature_is_typed(path: Path):
    untyped = []
    for function in functions(parse(path)):
        if "triton.jit" in map(ast.unparse, function.decorator_list):
            continue  # a kernel is in a language of its own, whose values have no types that Python knows
        arguments = function.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        named += [extra for extra in (arguments.vararg, arguments.kwarg) if extra]
        untyped += [f"{function.name}({a.arg})" for a in named if not a.annotation and a.arg not in {"self", "cls"}]
        untyped += [] if function.returns else [f"{function.name} ->"]
    assert untyped == []


@files(CORE, TRANSFER, *SCRIPTS)
def test_nothing_is_left_unfinished(path: Path):
    text = path.read_text()
    assert [word for word in UNFINISHED if word in text] == []


def test_no_two_files_of_a_package_say_the_same():
    for folder in (CORE, TRANSFER):
        docstrings = [ast.get_docstring(parse(path)) for path in sources(folder)]
        said = [text for text in docstrings if text]
        assert len(set(said)) == len(said)
