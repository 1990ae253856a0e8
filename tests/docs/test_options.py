"""What the running text and the recipes print as a command has options that exist."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from robustcl.declarations.sources import SOURCE_ROWS
from tests.docs.commands import PROGRAMS, options_of, read_only, script_options
from tests.docs.pages import PAGES, ROOT, Command, command, inline_commands, text_of

RECIPES = sorted((ROOT / "benchmarks" / "recipes").glob("*.toml"))


def flags(one: Command) -> set[str]:
    return {word.partition("=")[0] for word in one.words if re.match(r"--[a-z]", word)}


@pytest.mark.parametrize("page", PAGES)
def test_options_in_the_running_text_exist(page: str) -> None:
    for one in inline_commands(text_of(page)):
        where = f"{page}, line {one.line}: {one.text}"
        words = list(one.words)
        if words[0] == "torchrun":
            continue
        if words[0] == "python":
            if words[1:] and words[1].startswith("benchmarks/"):
                known, _ = script_options(words[1:2], partly=True)
                assert flags(one) <= set(known), where
            continue
        if words[1:] and words[1].endswith(","):  # a list of commands
            assert {word.rstrip(",") for word in words[1:]} <= set(PROGRAMS[words[0]]), where
        elif words[1:] and not words[1].startswith("-") and words[1] != "...":
            assert words[1] in PROGRAMS[words[0]], where
            options = options_of(words[0], words[1])
            known = {f"--{entry.name.replace('_', '-')}" for entry in fields(options)}
            assert {flag.replace("--no-", "--") for flag in flags(one)} <= known, where


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda place: place.stem)
def test_the_command_in_a_recipe_can_be_run(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = recipe.read_text(encoding="utf-8")
    assert tomllib.loads(text)
    found = re.findall(r"^# (robustcl train .*)$", text, flags=re.MULTILINE)
    assert len(found) == 1, "one line of the head is the command"
    one = command(found[0].split(), 1)
    monkeypatch.chdir(ROOT)
    read_only(one)
    words = dict(zip(one.words[2::2], one.words[3::2], strict=True))
    assert words["--recipe"] == str(recipe.relative_to(ROOT))
    assert words["--out"].endswith(".safetensors")
    source = words["--data"].partition(":")[0]
    assert source in SOURCE_ROWS


def test_an_option_that_does_not_exist_is_seen() -> None:
    words = ["robustcl", "train", "--data", "digits", "--out", "a.safetensors", "--epoch-s", "3"]
    one = command(words, 1)
    with pytest.raises(AssertionError, match="cannot be read"):
        read_only(one)
    words = ["python", "benchmarks/label_fraction.py", "--data", "digits", "--colour", "red"]
    one = command(words, 1)
    with pytest.raises(AssertionError, match="--colour"):
        read_only(one)
