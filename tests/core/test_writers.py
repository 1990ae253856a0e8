"""No module outside `robustcl.core` writes, moves or removes a file on its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import robustcl

ROOT = Path(robustcl.__file__).parents[1]
METHODS = {
    *("write_text", "write_bytes", "unlink", "rmdir", "rename", "mkdir", "touch", "symlink_to"),
    *("hardlink_to", "link_to", "chmod"),
}
MODULES = {
    "os": {
        *("open", "remove", "unlink", "rename", "renames", "replace", "mkdir", "makedirs", "rmdir"),
        *("removedirs", "symlink", "link", "truncate", "mkfifo", "mknod", "chmod", "chown"),
    },
    "shutil": None,  # anything
    "tempfile": None,
    "torch": {"save"},
}
STREAMS = {"save", "savez", "savez_compressed", "savefig", "save_file", "to_csv", "to_json",
           "to_parquet", "tofile", "imsave", "savetxt", "dump"}  # fmt: skip
WITH_NAME = ("gzip", "archive")  # gzip.open(name, mode), and ZipFile's method likewise
OPENED = ("writing", "replacing", "BytesIO", "StringIO")  # what streams and paths come from
# Where something is written that is nobody's file.
EXCEPTIONS = {
    "robustcl/evaluation/plan.py": "a temporary folder of its own, which is removed",
    "robustcl/workflows/audit.py": "temporary, as long as an audit is kept",
}


def sources() -> Iterator[Path]:
    for package in ("robustcl", "attacks", "certify"):
        yield from sorted((ROOT / package).rglob("*.py"))


def offences(tree: ast.AST) -> Iterator[str]:
    """Every call that may write, with its line."""
    streams = opened(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            what = offence(node, streams)
            if what:
                yield f"line {node.lineno}: {what}"


def opened(tree: ast.AST) -> set[str]:
    """Names that are bound to a stream in memory, or to a file that core yields."""
    found = set()
    for node in ast.walk(tree):
        pairs = []
        if isinstance(node, ast.With):
            pairs = [(item.optional_vars, item.context_expr) for item in node.items]
        elif isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.arg) and node.arg == "stream":
            found.add(node.arg)
        for target, value in pairs:
            text = ast.unparse(value)
            if isinstance(target, ast.Name) and any(f"{name}(" in text for name in OPENED):
                found.add(target.id)
    return found


def offence(call: ast.Call, streams: set[str]) -> str:
    function, text = call.func, ast.unparse(call.func)
    name = function.attr if isinstance(function, ast.Attribute) else text
    owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    known = MODULES.get(owner, set())
    if known is None or name in known:
        return text
    if owner in ("OutputFolder", "output", "atomic") or owner.startswith("OutputFolder("):
        return ""
    if name in METHODS and owner and not (name == "rename" and not call.args):
        return text  # table.rename(columns=...) is no file's
    if name == "replace" and owner and len(call.args) == 1 and not call.keywords:
        return f"{text}, as of a path"  # text.replace takes two, dataclasses.replace has keywords
    if name == "open" and owner != "os":
        return text if mode_of(call, method=bool(owner)) else ""
    if name in STREAMS and call.args and (owner or name != "save"):  # safetensors' gives bytes
        first = [ast.unparse(argument) for argument in call.args]
        return "" if streams & set(first) else f"{text} to what core has not opened"
    return ""


def mode_of(call: ast.Call, *, method: bool) -> bool:
    """Whether a call of open asks to write; a mode that is not spelled out counts."""
    whose = ast.unparse(call.func).rpartition(".")[0]
    place = 0 if method and whose not in WITH_NAME else 1
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    modes += call.args[place : place + 1]
    if ast.unparse(call.func) == "Image.open":  # has no mode but "r"
        return False
    return any(
        not isinstance(mode, ast.Constant) or bool(set(str(mode.value)) & set("wax+"))
        for mode in modes
    )


def test_no_module_writes_on_its_own() -> None:
    found, unused = [], set(EXCEPTIONS)
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("robustcl/core/"):
            continue
        lines = list(offences(ast.parse(path.read_text(encoding="utf-8"))))
        if name in EXCEPTIONS:
            unused -= {name} if lines else set()
        else:
            found += [f"{name}, {line}" for line in lines]
    assert not found, "write by robustcl.core: " + "; ".join(found)
    assert not unused, f"no exceptions any more: {unused}"


@pytest.mark.parametrize(
    "code",
    [
        "place.write_text('a')",
        "place.parent.mkdir(parents=True)",
        "temporary.replace(place)",
        "open('a', 'w')",
        "place.open('r+b')",
        "place.open(mode='ab')",
        "open(place, mode)",
        "os.unlink(place)",
        "os.replace(a, b)",
        "shutil.rmtree(folder)",
        "figure.savefig(place)",
        "save_file(tensors, temporary)",
        "np.savez(place, a=a)",
        "table.to_csv(place)",
        "torch.save(state, place)",
        "Image.fromarray(a).save(place)",
    ],
)
def test_what_writes_is_seen(code: str) -> None:
    assert list(offences(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "text.replace('a', 'b')",
        "dataclasses.replace(options, seed=1)",
        "place.open('rb')",
        "open(place)",
        "table.to_csv(index=False)",
        "stream = io.BytesIO(); figure.savefig(stream)",
        "with output.writing('a') as stream: np.savez(stream, a=a)",
        "with atomic.replacing(place) as temporary: save_file(tensors, temporary)",
        "OutputFolder(folder).write_text('a', 'b')",
    ],
)
def test_what_does_not_is_left_alone(code: str) -> None:
    assert not list(offences(ast.parse(code)))
