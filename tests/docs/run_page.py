"""Run the blocks of a page in their order, in one folder.

The blocks of a page share the folder, and its Python blocks one session, as a reader's would. Large
data and long runs are replaced as the table in `stand_ins` says, and in no other way; an entry of
that table that is not used is an error.
"""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from robustcl.cli import main as cli
from tests.docs.commands import read_only
from tests.docs.pages import PAGES, Command, blocks_of, commands_of, text_of
from tests.docs.stand_ins import FURNISHING, INSTALLING, READ_ONLY, REQUIRED, furnish, substituted

PAGES_WITH_BLOCKS = tuple(page for page in PAGES if blocks_of(text_of(page)))
SHELL, OUTPUT = ("bash", "sh", "console"), ("text",)


def run_page(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for library in REQUIRED.get(page, ()):
        pytest.importorskip(library, reason=f"{page} needs {library}")
    furnish(tmp_path)
    FURNISHING.get(page, lambda _: None)(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])  # as in a session begun here
    session: dict[str, Any] = {"__name__": "__main__"}
    with torch.random.fork_rng(devices=[]):
        for block in substituted(page, blocks_of(text_of(page))):
            where = f"{page}, line {block.line}"
            if block.language in SHELL:
                for one in commands_of(block):
                    run_command(page, one, monkeypatch, capfd)
            elif block.language == "python":
                exec(compile(block.text, where, "exec"), session)
            elif block.file:
                (tmp_path / block.file).write_text(block.text, encoding="utf-8")
            else:
                assert block.language in OUTPUT, f"{where}: how is {block.language!r} to be run?"


def run_command(
    page: str, one: Command, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    where = f"{page}, line {one.line}: {one.text}"
    if one.text in INSTALLING.get(page, ()):
        return
    if one.text.startswith(READ_ONLY.get(page, ("\n",))):
        read_only(one)
        return
    for setting in one.settings:
        monkeypatch.setenv(*setting.split("=", 1))
    before = {place: place.stat().st_mtime_ns for place in Path().rglob("*")}
    capfd.readouterr()
    code = call(one, monkeypatch)
    said = "".join(capfd.readouterr())
    assert code == 0, f"{where} ends with {code}: {said}"
    after = {place: place.stat().st_mtime_ns for place in Path().rglob("*")}
    assert said.strip() or before != after, f"{where} prints nothing and writes nothing"


def call(one: Command, monkeypatch: pytest.MonkeyPatch) -> int:
    program, *words = one.words
    monkeypatch.setattr(sys, "argv", list(one.words))
    if program in ("certify", "robustcl"):
        return getattr(cli, program)(words)
    assert program == "python" and words[0].endswith(".py"), f"{program!r} is not known"
    monkeypatch.setattr(sys, "argv", words)
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as stop:
        return 0 if stop.code is None else 1
    return 0
