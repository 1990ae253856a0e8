"""A mistake on the command line is one line that names the option, and code 2."""

import pytest

from robustcl.cli.main import certify, robustcl
from robustcl.options.read import one_line

RUN = ("run", "model.safetensors", "--data", "digits", "--out", "o")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*RUN, "--jsn"], ("--jsn", "perhaps you meant: --json", "certify run --help")),
        ([*RUN, "--split", "tets"], ("'tets'", "--split", "'train'")),
        ([*RUN, "--limit", "a\x1b[31mb"], ("--limit", "a\\x1b[31mb")),
        ([*RUN, "--seed"], ("--seed", "Missing value")),
        (["run"], ("Missing", "PATH", "--data", "--out")),
        (["nothing"], ("nothing", "certify --help")),
        (["methods", "x" * 3000], ("x" * 50,)),
    ],
)
def test_one_line(
    words: list[str], said: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert certify(words) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ") and not printed.out
    assert all(part in line for part in said), line
    assert "│" not in line and "─" not in line


def test_a_recipe(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "recipe.toml"
    place.write_text("epochs = 'many'\n")
    words = ["train", "--data", "digits", "--out", "o.safetensors", "--recipe", str(place)]
    assert robustcl(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "epochs" in line and "'many'" in line


def test_help_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert certify(["run", "--help"]) == certify([]) == 0
    printed = capsys.readouterr()
    assert "--test-certificates" in printed.out and not printed.err


DRAWN = """\
╭─ Oops ──────────╮
│ a word          │
│ more.           │
│     --x         │
│         its help │
│ ─────────────── │
│ For full help   │
╰─────────────────╯
"""
PLAIN = """\
 Oops
 -----------------
  a word
  more.
      --x
          its help
  ---------------
  For full help

"""


def test_the_message_is_found_in_either_frame() -> None:
    assert one_line(DRAWN) == one_line(PLAIN) == "a word more. --x"
    assert one_line("") == one_line("something else") == ""
