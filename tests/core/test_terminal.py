"""What reaches the terminal is plain text, and one module writes it."""

import ast
import io
import json
import sys
import threading
import warnings
from pathlib import Path

import pytest

import robustcl
from robustcl.core.locks import patiently
from robustcl.core.terminal import LONGEST, answer, emit, printable, say, say_lines, tame_warnings

ROOT = Path(robustcl.__file__).parents[1]
NASTY = "a\x1b[31m\r\n\t\x07\x00\x7f\x9b2J\u202e\u2028\u200b\ud800é日"


def test_nothing_that_acts_is_printed() -> None:
    shown = printable(NASTY)
    assert shown.isprintable() and shown.startswith("a\\x1b[31m\\r\\n\\t\\x07\\x00\\x7f\\x9b2J")
    assert shown.endswith("\\u202e\\u2028\\u200b\\ud800é日")
    assert printable("plain é 日 ∞") == "plain é 日 ∞"
    assert printable("\U000e0001") == "\\U000e0001"


def test_every_way_of_writing_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    say(NASTY)
    answer(NASTY)
    answer(NASTY, json=True)
    say_lines("one\ntwo\x1b")
    emit({"name": NASTY})
    said = capsys.readouterr()
    lines = [*said.out.splitlines(), *said.err.splitlines()]
    assert len(lines) == 6 and all(line.isprintable() for line in lines)
    assert json.loads(said.out.splitlines()[1]) == {"name": NASTY}


def test_a_line_ends() -> None:
    stream, before = io.StringIO(), sys.stderr
    sys.stderr = stream
    try:
        say("b" + "x" * 10**6 + "e")
    finally:
        sys.stderr = before
    line = stream.getvalue()
    assert len(line) < LONGEST + 10 and line[0] == "b" and line[-2:] == "e\n" and "…" in line


def test_letters_that_a_terminal_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    answer("L∞")
    sys.stdout.flush()
    assert raw.getvalue() == b"L\\u221e\n"


def test_warnings_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        tame_warnings()
        warnings.warn("two\nlines \x1b[1m", UserWarning, stacklevel=1)
        warnings.warn_explicit("of images", UserWarning, "x", 1, module="PIL.TiffImagePlugin")
    assert capsys.readouterr().err == "warning: UserWarning: two\\nlines \\x1b[1m\n"


def test_waiting_is_said_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert patiently(lambda: 3, what="x") == 3
    with pytest.raises(KeyError, match="gone"):
        patiently(lambda: {}["gone"], what="x")
    assert capsys.readouterr().err == ""
    ready = threading.Event()
    threading.Timer(0.2, ready.set).start()
    assert patiently(ready.wait, what="a\x1bb", first=0.01)
    assert "still reading 'a\\x1bb' after 0.01 s; Ctrl-C" in capsys.readouterr().err


def test_ctrl_c_ends_waiting_for_what_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(text: str) -> None:
        raise KeyboardInterrupt(text)

    monkeypatch.setattr("robustcl.core.locks.say", interrupt)
    never = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        patiently(never.wait, what="x", first=0.01)
    never.set()


def test_only_one_module_writes_to_the_terminal() -> None:
    found, bars = set(), set()
    for folder in ("robustcl", "attacks", "certify"):
        for place in (ROOT / folder).rglob("*.py"):
            name = place.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(place.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    found |= {name} if _writes(node) else set()
                    bars |= {name} if ast.unparse(node.func).endswith("Console") else set()
    # The second writes fixed words where a signal ends the process at once.
    assert found <= {"robustcl/core/terminal.py", "robustcl/core/last_handler.py"}
    # Tables of our own words, and bars, whose texts are escaped and hold no markup.
    assert bars <= {
        "robustcl/cli/methods.py",
        "robustcl/evaluation/measuring.py",
        "robustcl/evaluation/minutes.py",
        "robustcl/training/logs.py",
    }


def _writes(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name == "os.write":
        return ast.unparse(call.args[0]) in ("1", "2")
    if name in ("print", "pprint", "input", "traceback.print_exc"):
        return True
    streams = ("stdout", "stderr", "__stdout__", "__stderr__")
    writers = ("write", "writelines", "buffer.write")
    return any(name.endswith(f"{stream}.{writer}") for stream in streams for writer in writers)
