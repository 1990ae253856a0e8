"""The ten lines of the README hold for every seed."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[1] / "README.md"
PARTS = 10


def ten_lines() -> str:
    text = README.read_text(encoding="utf-8")
    found = re.search(r"## Ten lines\n+```python\n(.*?)```", text, flags=re.DOTALL)
    assert found is not None
    return found[1]


def assert_holds(code: str, seed: int) -> None:
    torch.manual_seed(seed)
    names: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, f"README.md, seed {seed}", "exec"), names)


@pytest.mark.parametrize("part", range(PARTS))
def test_the_ten_lines_hold_for_a_hundred_seeds(part: int) -> None:
    code = ten_lines()
    assert "assert (claim.radius <= found.radius).all()" in code
    # Batches are filled up to their fixed shape; without, the attack takes half the time.
    quick = re.sub(r"eps_grid=\[[^]]*\]", r"\g<0>, batch_size=5", code)
    assert quick != code
    assert_holds(code, part)
    for seed in range(PARTS + part, 100, PARTS):
        assert_holds(quick, seed)
