"""Imports point downwards: core <- attacks, certify <- evaluation and commands."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOP = ("auditing", "bench", "commands")


def imported(place: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(place.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def rooms_of(place: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(place)} & {"attacks", "certify", "robustcl"}


def test_attacks_and_certify_never_meet() -> None:
    for room, other in (("attacks", "certify"), ("certify", "attacks")):
        places = list((ROOT / room).rglob("*.py"))
        assert len(places) > 5
        assert [p for p in places if other in rooms_of(p)] == []


def test_the_core_imports_neither() -> None:
    for place in (ROOT / "robustcl").rglob("*.py"):
        room = place.relative_to(ROOT / "robustcl").parts[0]
        is_top = room in (*TOP, "cli.py")
        if not is_top and place.name != "__init__.py":
            assert rooms_of(place) <= {"robustcl"}, place


def test_lower_rooms_do_not_reach_up() -> None:
    upper = ("robustcl.auditing", "robustcl.bench", "robustcl.cli", "robustcl.commands")
    for room in ("attacks", "certify"):
        for place in (ROOT / room).rglob("*.py"):
            found = {name for name in imported(place) if name.startswith(upper)}
            assert not found or place.name == "__main__.py", (place, found)


def test_reports_do_not_need_torch() -> None:
    for room in ("report", "runs"):
        places = list((ROOT / "robustcl" / room).glob("*.py"))
        assert len(places) > 5
        for place in places:
            assert "torch" not in {name.split(".")[0] for name in imported(place)}, place
