"""A run that is killed while it writes, and resumed, ends with the records of one in one go."""

import importlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustcl.cli.main import certify, robustcl
from robustcl.records.reading import read_manifest
from tests.cli.random_checkpoint import random_checkpoint

Command = Callable[[list[str]], int]


def run_words(folder: Path) -> list[str]:
    model, data = random_checkpoint(folder)
    options = ["--methods", "product,smoothing:n=50", "--attack", "deepfool"]
    return ["run", str(model), "--data", data, "--eps", "9", *options]


def attack_words(folder: Path) -> list[str]:
    # So large a budget that PGD fools all images: the reference would take seconds for each.
    model, data = random_checkpoint(folder)
    return ["attack", str(model), "--data", data, "--eps", "9", "--methods", "product"]


@pytest.mark.parametrize(("command", "words"), [(certify, run_words), (robustcl, attack_words)])
def test_three_kills_leave_no_trace(
    command: Command, words: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    given = [*words(tmp_path), "--split", "test", "--limit", "12", "--batch-size", "4", "--quiet"]
    assert command([*given, "--out", str(tmp_path / "whole")]) == 0
    expected = plain(tmp_path / "whole")
    killed = tmp_path / "killed"
    counts = []
    for share in (0.2, 0.5, 0.8):
        more = ["--resume"] if counts else []
        die_at(int(share * len(expected)), command, [*given, "--out", str(killed), *more])
        counts.append((killed / "records-0.jsonl").read_bytes().count(b"\n"))
        assert not read_manifest(killed).get("complete")
    assert 0 < counts[0] < counts[1] < counts[2] < len(expected)
    assert command([*given, "--out", str(killed), "--resume"]) == 0
    assert plain(killed) == expected
    assert read_manifest(killed)["complete"]


def die_at(lines: int, command: Command, words: list[str]) -> None:
    # In a child: the first chunk that goes beyond so many records is cut in its last line. It is no
    # fork of this process, in which torch would take no gradients once it has threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["robustcl.evaluation.clean_records"])
    child = context.Process(target=patch_and_run, args=(lines, command, words))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def patch_and_run(lines: int, command: Command, words: list[str]) -> None:
    module: Any = importlib.import_module("robustcl.evaluation.clean_records")
    write = module.append_records

    def writes_and_dies(folder: Path, records: list[dict]) -> None:
        write(folder, records)
        place = folder / "records-0.jsonl"
        content = place.read_bytes()
        if content.count(b"\n") > lines:
            place.write_bytes(content[:-20])
            os.kill(os.getpid(), signal.SIGKILL)

    module.append_records = writes_and_dies
    command(words)


OWN = {"seconds", "stage_seconds", "session", "crc"}  # of a session, not of an image


def plain(folder: Path) -> list[dict]:
    lines = (folder / "records-0.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    found = [{k: v for k, v in record.items() if k not in OWN} for record in records]
    return sorted(found, key=lambda record: (record["kind"], record["method"], record["index"]))
