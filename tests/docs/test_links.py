"""Every relative link and image of the pages is there, and in git."""

import subprocess

import pytest

from tests.docs.pages import PAGES, ROOT, blocks_of, commands_of, inline_commands, links_of, text_of


def tracked() -> set[str]:
    try:
        found = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout: what is tracked cannot be told")
    return set(found.stdout.split("\0"))


def test_every_relative_link_is_a_tracked_file() -> None:
    files = tracked()
    folders = {str(parent) for name in files for parent in (ROOT / name).parents}
    lost = []
    for page in PAGES:
        for target in links_of(text_of(page)):
            place = ((ROOT / page).parent / target).resolve()
            name = str(place.relative_to(ROOT))
            if name not in files and str(place) not in folders:
                lost.append((page, target))
    assert not lost


def test_links_are_seen() -> None:
    text = "![a](x.png) and [b](../y/z.md#part), [c](https://example.org), `[d](e)`, [f](#g)"
    assert links_of(text)[:2] == ["x.png", "../y/z.md"]
    assert "https://example.org" not in links_of(text)
    assert any(links_of(text_of(page)) for page in PAGES)


def test_every_tracked_path_that_code_names_is_there() -> None:
    files = tracked()
    for page in PAGES:
        texts = [one.words for one in inline_commands(text_of(page))]
        texts += [
            one.words
            for block in blocks_of(text_of(page))
            if block.language == "bash"
            for one in commands_of(block)
        ]
        named = {word for words in texts for word in words if word.startswith("benchmarks/")}
        assert {word.rstrip("/") for word in named if "." in word and "{" not in word} <= files, (
            page
        )
