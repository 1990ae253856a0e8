"""Every fenced block of the pages of studies runs as it is printed."""

from pathlib import Path

import pytest

from tests.docs.run_page import run_page

STUDIES = (
    "docs/adversarial.md",
    "docs/contrastive-against-supervised.md",
    "docs/multiview.md",
    "docs/training.md",
)


@pytest.mark.parametrize("page", STUDIES)
def test_every_block_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run_page(page, tmp_path, monkeypatch, capfd)
