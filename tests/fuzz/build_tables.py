"""Build malformed reproducers, recipes and suites."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustcl.evaluation.reproducer import REPRODUCER_KEY as VIOLATION
from tests.fuzz.build_parts import DEEP, NUMBERS, Cases, header_of, named, with_header, without

FINE = {("certified", "1e999"), ("certified", "half"), ("seed", "negative")}  # of a reproducer


def reproducers(folder: Path, sound: Path) -> Cases:
    """Write reproducers of the schema without a checksum, each with one wrong field or tensor.

    Args:
        folder: Where.
        sound: A sound reproducer.

    Yields:
        What is wrong, and the file.
    """
    header, body = header_of(sound)
    stated = json.loads(header["__metadata__"][VIOLATION])
    plain = {**without(stated, "checksum"), "schema": 1}
    cases: dict[str, bytes] = {}

    def add(what: str, text: str, tensors: Mapping[str, Any] | None = None) -> None:
        kept = without(header, "__metadata__") if tensors is None else dict(tensors)
        cases[what] = with_header({"__metadata__": {VIOLATION: text}, **kept}, body)

    for name in plain:
        add(f"no {name}", json.dumps(without(plain, name)))
        for what, spelled in NUMBERS.items():
            if (name, what) in FINE:
                continue
            kept = {"text", "escape", "surrogate"}
            if isinstance(plain[name], str) and name != "norm" and what in kept:
                continue
            marked = json.dumps({**plain, name: "@@"}).replace('"@@"', spelled)
            add(f"{name} {what}", marked)
    for text in ("", "[]", "null", "7", "[" * DEEP, '{"schema": 1}', '{"schema": 1e999}'):
        add(f"statement {text[:20]!r}", text)
    add("a field more", json.dumps({**plain, "more": 1}))
    add("schema 99", json.dumps({**plain, "schema": 99}))
    add("no violation", json.dumps({**plain, "attacked": plain["certified"]}))
    entry = header["image"]
    for what, change in (
        ("no image", without(header, "image")),
        ("image of int32", {**header, "image": {**entry, "dtype": "I32"}}),
        ("image of another shape", {**header, "image": {**entry, "shape": [entry["shape"][1]]}}),
    ):
        add(what, json.dumps(plain), without(change, "__metadata__"))
    for number, content in enumerate(cases.values()):
        (folder / f"reproducer-{number}.safetensors").write_bytes(content)
    yield from named(folder, "reproducer", ".safetensors", cases)


def recipes(folder: Path) -> Cases:
    """Write recipes for `robustcl train --recipe`.

    Args:
        folder: Where.

    Yields:
        What is wrong, and the file.
    """
    cases: dict[str, bytes] = {what: text.encode() for what, text in _wrong_toml().items()}
    cases["not UTF-8"] = b'loss = "\xff"'
    for key in ("epochs", "labels", "loss", "learning_rate", "batch_size", "seed", "robust"):
        for value in ("nan", "-inf", "1979-05-27", "[1, 2]", "{a = 1}", "0x" + "f" * 40, "true"):
            cases[f"{key} {value}"] = f"{key} = {value}\n".encode()
    for line in (
        *("epochs = 0", "epochs = 1.5", 'epochs = "3"', "labels = 2.0"),
        *('loss = "--overwrite"', 'loss = ""', 'loss = "simclr:temperature=nan"', "seed = -1"),
        *('robust = "acl:steps=a"', 'robust = "acl:eps=nan"', 'views = "x"'),
        *("unknown = 1", "[train]\nepochs = 1", 'recipe = "a.toml"', "label-seed=1\nlabel_seed=1"),
        *("learning_rate = 0.0", "momentum = 1.0", "projector = -1", 'arch = "os:system"'),
    ):
        cases[line] = line.encode()
    for number, content in enumerate(cases.values()):
        (folder / f"recipe-{number}.toml").write_bytes(content)
    yield from named(folder, "recipe", ".toml", cases)


def suites(folder: Path) -> Cases:
    """Write suites for `robustcl bench`.

    Args:
        folder: Where.

    Yields:
        What is wrong, and the file.
    """
    plain: dict[str, str] = {
        "question": '"?"',
        "metrics": '["clean_accuracy"]',
        "limit": "4",
        "models": "{a = {epochs = 1}}",
    }
    cases: dict[str, bytes] = {what: text.encode() for what, text in _wrong_toml().items()}
    cases["not UTF-8"] = b'question = "\xff"'

    def add(key: str, value: str) -> None:
        lines = {**plain, key: value}
        cases[f"{key} = {value[:40]}"] = "\n".join(f"{k} = {v}" for k, v in lines.items()).encode()

    fields = ("question", "models", "metrics", "data", "seeds", "norms", "certificates", "attacks")
    for key in (*fields, "eps", "corruptions", "severities", "multiview", "train", "peers"):
        for value in ("nan", "1979-05-27", "true", "[[1]]", "{a = 1}", "-1", '"x"', "[nan]"):
            if (key, value) != ("question", '"x"'):
                add(key, value)
    for key in ("repeats", "limit", "batch_size", "classes", "corrupted_folder"):
        for value in ("nan", "0", "-1", "true", "1.5", "[]", "0x" + "f" * 40):
            add(key, value)
    for name in ("..", ".", "", "/a", "a/b", "a\\u0000", "\\u001b[31m", "-" * 500):
        add("models", f'{{"{name}" = {{epochs = 1}}}}' if "/" in name or name in ("", "a\\u0000",
            "\\u001b[31m") else f'{{"{name}" = {{epochs = 0}}}}')  # fmt: skip
    for value in ("{a = 3}", "{a = {epochs = 0}}", "{a = {loss = 1}}", '{a = {head = "x"}}',
                  "{a = {checkpoint = 1}}", "{a = {labels = nan}}", "{}"):  # fmt: skip
        add("models", value)
    add("attacks", '["pgd:steps=nan"]')
    add("attacks", '["pgd:steps=a"]')
    add("certificates", '["smoothing:n=1e400"]')
    add("eps", '{l2 = ["nan"]}')
    add("eps", "{l2 = [-1]}")
    for number, content in enumerate(cases.values()):
        (folder / f"suite-{number}.toml").write_bytes(content)
    yield from named(folder, "suite", ".toml", cases)


def _wrong_toml() -> dict[str, str]:
    return {
        "half a line": "a = ",
        "no TOML": "{]",
        "nested deeply": "a = " + "[" * 50_000,
        "tables nested deeply": "a = " + "{a=" * 50_000,
        "a long key": "a." * 90_000 + "b = 1",
        "a huge number": "epochs = " + "9" * 5000,
        "a long file": "# \n" * 10**6,
        "a zero byte": "a = 1\0",
    }
