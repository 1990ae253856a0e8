"""Imports point downwards: core <- attacks, certify <- evaluation and commands."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOP = ("auditing", "bench", "commands", "cli")
SIDES = ("attacks", "certify")


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package, by its room: the first name below robustcl."""
    for place in sorted((ROOT / "robustcl").rglob("*.py")):
        yield place.relative_to(ROOT / "robustcl").with_suffix("").parts[0], place
    for side in SIDES:
        for place in sorted((ROOT / side).rglob("*.py")):
            yield side, place


def imported(place: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(place.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def rooms_of(place: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(place) if name.startswith("robustcl.")}


def test_every_room_is_seen() -> None:
    rooms = {room for room, _ in modules()}
    assert {*TOP, *SIDES, "core", "data", "training"} <= rooms


def test_attacks_and_certify_never_meet() -> None:
    for room, place in modules():
        if room in SIDES:
            assert not rooms_of(place) & set(SIDES) - {room}, place


def test_the_core_imports_neither() -> None:
    for room, place in modules():
        if room not in (*TOP, *SIDES, "__init__"):
            assert not rooms_of(place) & set(SIDES), place


def test_lower_rooms_do_not_reach_up() -> None:
    for room, place in modules():
        if room in SIDES and place.name != "__main__.py":
            assert not rooms_of(place) & set(TOP), place


def test_reports_do_not_need_torch() -> None:
    for room, place in modules():
        if room in ("report", "runs"):
            assert "torch" not in {name.split(".")[0] for name in imported(place)}, place


def test_nothing_is_imported_by_the_names_of_the_folders() -> None:
    places = [place for _, place in modules()]
    places += [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    for place in places:
        assert not {name.split(".")[0] for name in imported(place)} & set(SIDES), place
    assert not [sys.modules[name] for name in SIDES if name in sys.modules]
