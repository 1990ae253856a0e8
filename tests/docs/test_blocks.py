"""Every fenced block of the pages runs as it is printed, in its order, in a fresh folder.

The pages of studies are in a file of their own, so that two processes share the work.
"""

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks_of, commands_of, text_of
from tests.docs.run_page import PAGES_WITH_BLOCKS, SHELL, run_page
from tests.docs.stand_ins import INSTALLING, READ_ONLY, SUBSTITUTIONS
from tests.docs.test_blocks_of_studies import STUDIES


@pytest.mark.parametrize("page", [page for page in PAGES_WITH_BLOCKS if page not in STUDIES])
def test_every_block_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run_page(page, tmp_path, monkeypatch, capfd)


def test_no_page_is_left_out() -> None:
    assert set(STUDIES) < set(PAGES_WITH_BLOCKS)
    assert "README.md" in PAGES_WITH_BLOCKS and len(PAGES_WITH_BLOCKS) > 12


def test_every_substitution_and_exception_is_of_a_page_that_is_run() -> None:
    named = {entry.page for entry in SUBSTITUTIONS} | set(INSTALLING) | set(READ_ONLY)
    assert named <= set(PAGES_WITH_BLOCKS)
    for page, texts in (*INSTALLING.items(), *READ_ONLY.items()):
        shells = [block for block in blocks_of(text_of(page)) if block.language in SHELL]
        found = [one.text for block in shells for one in commands_of(block)]
        for text in texts:
            assert any(one.startswith(text) for one in found), (page, text)


def test_no_two_blocks_of_a_page_write_to_one_place() -> None:
    for page in PAGES_WITH_BLOCKS:
        shells = [block for block in blocks_of(text_of(page)) if block.language in SHELL]
        words = [list(one.words) for block in shells for one in commands_of(block)]
        outs = [line[line.index("--out") + 1] for line in words if "--out" in line]
        planned = [line for line in words if "--plan" in line]
        assert len(outs) - len(planned) <= len(set(outs)), (page, outs)


def test_what_ci_installs_is_what_the_readme_says() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    assert "pip install -q . && certify demo" in ci
    assert 'pip install -q ".[test]" && pytest' in ci
