"""Imports point down, without a circle and without an exception."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("attacks", "certify")  # at the top of the repository; links lie in the package

# A package may import from those before it. Entry points (`__main__.py`) belong to `cli`.
LAYERS = (
    "core", "declarations", "options", "records", "data", "models", "calibration", "attacks",
    "certify", "training", "report", "evaluation", "workflows", "studies", "cli",
)  # fmt: skip


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for base, prefix in ((ROOT / "robustcl", "robustcl"), *((ROOT / f, f) for f in FOLDERS)):
        for place in sorted(base.rglob("*.py")):
            if prefix == "robustcl" and place.relative_to(base).parts[0] in FOLDERS:
                continue
            parts = place.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts if prefix == "robustcl" else ("robustcl", *parts))
            found[name.removesuffix(".__init__")] = place
    return found


def layer(name: str) -> str:
    """The package of a module; that of the whole and entry points lie on top."""
    parts = name.split(".")
    return "cli" if len(parts) < 2 or parts[-1] == "__main__" else parts[1]


def typing_only(tree: ast.AST) -> set[ast.AST]:
    """What is imported for type checkers only."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }


def named(name: str) -> Iterator[str]:
    """Every module that a module imports anywhere, also inside of functions."""
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    skipped = typing_only(tree)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in modules() else node.module


def test_every_package_has_its_layer() -> None:
    assert {layer(name) for name in modules()} == set(LAYERS)


def test_imports_point_down() -> None:
    rank = {name: number for number, name in enumerate(LAYERS)}
    upward = [
        (name, other)
        for name in modules()
        for other in named(name)
        if other.startswith("robustcl.") and rank[layer(other)] > rank[layer(name)]
    ]
    assert upward == []


def test_there_is_no_circle() -> None:
    # A package stands for itself alone: what it exports is imported from the modules inside.
    graph = {
        name: {other for other in named(name) if other in modules() and other != name}
        for name in modules()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError with the circle


def test_attacks_and_certificates_never_meet() -> None:
    for name in modules():
        if layer(name) in FOLDERS:
            (other,) = set(FOLDERS) - {layer(name)}
            assert other not in {layer(n) for n in named(name) if n.startswith("robustcl.")}, name


def test_records_and_reports_do_not_need_torch() -> None:
    for name in modules():
        if layer(name) in ("report", "records", "options", "declarations"):
            assert "torch" not in {n.split(".")[0] for n in named(name)}, name


def test_no_name_of_a_package_hides_a_module_of_it() -> None:
    for name, place in modules().items():
        if place.name != "__init__.py" or name == "robustcl":
            continue
        inside = {n.removeprefix(f"{name}.") for n in modules() if n.startswith(f"{name}.")}
        tree = ast.parse(place.read_text(encoding="utf-8"))
        given = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module and node.module != name
            for alias in node.names
        }
        assert not given & inside, name


def test_no_public_name_is_defined_twice() -> None:
    homes: dict[str, list[str]] = {}
    for name, place in modules().items():
        for node in ast.parse(place.read_text(encoding="utf-8")).body:
            for own in _defined(node):
                if not own.startswith("_"):
                    homes.setdefault(own, []).append(name)
    assert {own: places for own, places in homes.items() if len(places) > 1} == {}


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def test_nothing_is_imported_by_the_names_of_the_folders() -> None:
    places = [*modules().values(), *(ROOT / "tests").rglob("*.py")]
    places += [*(ROOT / "benchmarks").rglob("*.py")]
    for place in places:
        for node in ast.walk(ast.parse(place.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & set(FOLDERS), place
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                assert node.module.split(".")[0] not in FOLDERS, place
    assert not [sys.modules[name] for name in FOLDERS if name in sys.modules]


def test_drivers_ask_operations_and_do_not_sort_them() -> None:
    kinds = {"Affine", "Concatenation", "Constant", "Elementwise", "Image", "MaxPool", "Sum"}
    for name, place in modules().items():
        if layer(name) != "certify" or ".ops" in name or ".lowering" in name:
            continue
        for node in ast.walk(ast.parse(place.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                named_kinds = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
                assert not named_kinds & kinds, name
