"""Spoil plain values and bytes at random places."""

import copy
import random
from collections.abc import Callable
from typing import Any

DEEP: Any = []
for _ in range(400):
    DEEP = [DEEP]

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e308, 1e-320),
    *(float("nan"), float("inf"), float("-inf")),
    *("", " ", "x", "0", "nan", "../../etc/passwd", "/", "\x00", "\x1b[2J\x1b]0;owned\x07", "a\nb"),
    *("\u202ecba", "\ud800", "é", "💥", "=1+1", "<script>alert(1)</script>", "$\\frac{", "%s{0}"),
    *("x" * 5000, [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, [1, "a", None], DEEP),
    *(list(range(3000)), {str(k): k for k in range(500)}),
)
"""What stands in the place of a good value."""


def paths_of(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List every place in plain values, the whole itself left out."""
    found: list[tuple[Any, ...]] = []
    parts = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        parts = enumerate(value[:20])
    for key, part in parts:
        found += [(*above, key), *paths_of(part, (*above, key))]
    return found


def spoiled(draws: random.Random, value: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a copy with one entry dropped, doubled, renamed or replaced, and the place of it."""
    whole = copy.deepcopy(value)
    places = paths_of(whole)
    if not places or draws.random() < 0.03:
        return copy.deepcopy(draws.choice(VALUES)), ()
    place = draws.choice(places)
    inner = whole
    for key in place[:-1]:
        inner = inner[key]
    action, key = draws.random(), place[-1]
    if action < 0.12:
        del inner[key]
    elif action < 0.2 and isinstance(inner, dict):
        inner[f"{key}{draws.choice('xX_- ')}"] = inner.pop(key)
    elif action < 0.26 and isinstance(inner, dict):
        inner[draws.choice(("", "strange", "\x1b[31m", "__class__"))] = 1
    else:
        inner[key] = copy.deepcopy(_another(draws, inner[key]))
    return whole, place


def _another(draws: random.Random, value: Any) -> Any:
    near: list[Callable[[Any], Any]] = []
    if isinstance(value, int | float) and not isinstance(value, bool):
        near = [lambda v: -v, lambda v: v * 10**9, lambda v: v + 0.5, str, lambda v: [v]]
    elif isinstance(value, str):
        near = [
            lambda v: v + "\x1b[7m",
            lambda v: v[:-1],
            lambda v: v * 1000,
            lambda v: [v],
            str.upper,
        ]
    elif isinstance(value, list):
        near = [
            lambda v: v[:-1],
            lambda v: v + v,
            lambda v: [v],
            lambda v: dict(enumerate(map(str, v))),
        ]
    elif isinstance(value, dict):
        near = [lambda v: list(v), lambda v: [v], lambda v: str(v)]
    if near and draws.random() < 0.4:
        return draws.choice(near)(value)
    return draws.choice(VALUES)


def spoiled_bytes(draws: random.Random, content: bytes) -> bytes:
    """Return content that is cut, doubled, overwritten, flipped in bits, or something else."""
    action = draws.randrange(8)
    where = draws.randrange(max(len(content), 1))
    if action == 0:
        return content[:where]
    if action == 1:
        return content[:where] + draws.randbytes(draws.randint(1, 64)) + content[where:]
    if action == 2:
        return content[:where] + draws.randbytes(16) + content[where + 16 :]
    if action == 3:
        return b"" if draws.random() < 0.5 else draws.randbytes(draws.choice((1, 8, 100, 5000)))
    if action == 4:
        return content + content
    if action == 5:
        return content[:where] + b"\xff" * draws.choice((1, 4, 8)) + content[where + 8 :]
    if action == 6:
        return content[where:]
    spoilt = bytearray(content)
    for _ in range(draws.choice((1, 3, 20))):
        if spoilt:
            spoilt[draws.randrange(len(spoilt))] ^= 1 << draws.randrange(8)
    return bytes(spoilt)
