"""In an output folder only what we listed is ever replaced or removed."""

import json
import os
import time
from pathlib import Path

import pytest

from robustcl.core import atomic
from robustcl.core.errors import InputError, RunError
from robustcl.core.listing import LISTING
from robustcl.core.locks import changing, session_lock
from robustcl.core.output_folder import OutputFolder, check_output
from tests.core.hard_cases import forked, small_disk


def tree(root: Path) -> dict[str, str]:
    """Every file and link below a folder with its content, without the list and the locks."""
    found = {}
    for folder, _, files in os.walk(root):
        for name in files:
            place = Path(folder) / name
            if name not in (LISTING, ".lock"):
                text = (
                    f"-> {place.readlink()}"
                    if place.is_symlink()
                    else place.read_text(errors="replace")
                )
                found[place.relative_to(root).as_posix()] = text
    return found


def old_run(root: Path) -> OutputFolder:
    """A folder as version 0.1 left it: a manifest, and no list."""
    (root / "figures").mkdir(parents=True)
    (root / "manifest.json").write_text('{"schema": 1, "config_hash": "a"}')
    (root / "report.html").write_text("old page")
    (root / "figures" / "sandwich.png").write_text("old figure")
    (root / "figures" / "holiday.png").write_text("photograph")
    return OutputFolder(root)


def test_what_we_wrote_is_replaced_and_removed(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path / "new")
    output.check_start()
    assert not output.root.exists()
    for content in ("one", "two"):
        output.write_text("figures/a.png", content)
    output.write_text("figures/b.png", "b")
    output.append("records-0.jsonl", b"x\n")
    output.append("records-0.jsonl", b"y\n")
    output.remove(["figures/b.png", "figures/never.png"])
    assert tree(output.root) == {"figures/a.png": "two", "records-0.jsonl": "x\ny\n"}
    assert output.listed() == {"figures/a.png", "records-0.jsonl"}
    OutputFolder(output.root).write_text("figures/a.png", "by another process")
    assert tree(output.root)["figures/a.png"] == "by another process"


@pytest.mark.parametrize("name", ["report.html", "figures/a.png", "records-0.jsonl"])
def test_what_others_put_there_is_left_alone(name: str, tmp_path: Path) -> None:
    output = OutputFolder(tmp_path)
    output.write_text("manifest.json", '{"config_hash": "a"}')
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("of somebody else")
    for write in (
        lambda: output.write_text(name, "ours"),
        lambda: output.append(name, b"ours"),
        lambda: output.claim(name),
    ):
        with pytest.raises(RunError, match=f"{name}.*not written by robustcl"):
            write()
    output.remove([name])
    assert tree(tmp_path)[name] == "of somebody else"


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    OutputFolder(tmp_path).check_start()  # empty folders hold nothing to lose
    for name in (".lock", ".session-0.lock", ".DS_Store", ".robustcl-0a0a0a0a-1-1-0.part"):
        (tmp_path / name).write_text("")
    OutputFolder(tmp_path).check_start()
    OutputFolder(tmp_path).write_text("encoder.safetensors", "")  # before there is a manifest
    OutputFolder(tmp_path).check_start()
    (tmp_path / "figures" / "\x1b[31mphoto.png").write_text("")
    with pytest.raises(RunError, match=r"holds 'figures/\\x1b\[31mphoto.png', which robustcl did"):
        OutputFolder(tmp_path).check_start()
    (tmp_path / "figures" / "\x1b[31mphoto.png").unlink()
    (tmp_path / "figures" / "elsewhere").symlink_to("/")
    with pytest.raises(RunError, match="figures/elsewhere"):
        OutputFolder(tmp_path).check_start()


def test_what_dead_processes_left_goes_at_the_start(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path)
    output.write_text("manifest.json", '{"config_hash": "a"}')
    output.claim("arrays/embeddings.npz", "arrays/embeddings.1.npz", "summary.json")
    (tmp_path / "arrays").mkdir()
    dead = f".robustcl-{atomic._machine()}-999999999-1-0.part"
    old = ["arrays/.embeddings.0.77.npz", "arrays/.embeddings.1.77.npz", ".summary.json.0.77"]
    kept = [".notes.0.77", "arrays/.mine.0.77.npz", "arrays/.embeddings.npz"]
    for name in (dead, f"arrays/{dead}", *old, *kept):
        (tmp_path / name).write_text("")
    for name in old[1:] + kept:
        os.utime(tmp_path / name, (time.time() - 90_000, time.time() - 90_000))
    output.check_start()
    assert set(tree(tmp_path)) == {"manifest.json", old[0], *kept}  # that may still be written to


def test_a_list_of_somebody_else_makes_no_folder_ours(tmp_path: Path) -> None:
    (tmp_path / LISTING).write_text('["photo.png"]')
    (tmp_path / "photo.png").write_text("")
    output = OutputFolder(tmp_path)
    with pytest.raises(RunError, match=r"holds 'files.json'"):
        output.check_start()
    with pytest.raises(RunError, match=r"files\.json.*not written by robustcl"):
        output.write_text("a", "")
    assert tree(tmp_path) == {"photo.png": ""}


@pytest.mark.parametrize("kind", ["file", "dangling", "loop", "below"])
def test_a_root_that_can_be_no_folder(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "out"
    if kind in ("file", "below"):
        place.write_text("of somebody else")
    else:
        place.symlink_to("nowhere" if kind == "dangling" else "out")
    root = place / "inner" if kind == "below" else place
    with pytest.raises(RunError, match=r"is a file|is a link that leads nowhere"):
        OutputFolder(root).check_start()


def test_a_zero_byte_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="zero byte"):
        OutputFolder(tmp_path / "a\0b").check_start()
    with pytest.raises(InputError, match="zero byte"):
        check_output(tmp_path / "a\0b", overwrite=False, ours=lambda _: True, kind="file")


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "named").symlink_to("real")
    output = OutputFolder(tmp_path / "named")
    output.check_start()
    output.write_text("tables/a.csv", "1")
    assert (tmp_path / "real" / "tables" / "a.csv").read_text() == "1"


@pytest.mark.parametrize("name", ["figures/a.png", "report.html", "records-0.jsonl", LISTING])
def test_links_within_are_never_followed(name: str, tmp_path: Path) -> None:
    root, other = tmp_path / "run", tmp_path / "elsewhere"
    output = OutputFolder(root)
    output.write_text("manifest.json", '{"config_hash": "a"}')
    output.claim("figures/a.png", "report.html", "records-0.jsonl")
    other.mkdir()
    (other / "a.png").write_text("theirs")
    part = root / name.split("/")[0]
    part.unlink(missing_ok=True)
    part.symlink_to(other if "/" in name else other / "a.png")
    with pytest.raises(RunError, match=rf"{part.name}'.* is a link"):
        output.check_start()
    for write in (
        lambda: output.write_text(name if name != LISTING else "b", "ours"),
        lambda: output.append(name if name != LISTING else "b", b"ours"),
        lambda: output.set_aside(name, "kept") if name != LISTING else output.claim("b"),
        lambda: output.remove(["figures/a.png"]) or output.claim(name),
    ):
        with pytest.raises(RunError, match=r"is a link|cannot be a file of"):
            write()
    assert tree(other) == {"a.png": "theirs"}


NAMES = ["", ".", "..", "../x", "a/../../x", "/etc/x", "a//b", "a/", "C:x", "..\\x", "a\nb", "-x"]
NAMES += ["con", "NUL.txt", "x" * 256, "a/" + "ß" * 128, ".hidden", "a."]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_out_or_are_no_names(name: str, tmp_path: Path) -> None:
    output = OutputFolder(tmp_path / "run")
    with pytest.raises(RunError, match="cannot be a file of"):
        output.write_text(name, "")
    assert not list(tmp_path.rglob("*"))


def test_a_folder_of_an_older_version_is_ours_by_name_and_nothing_is_removed(
    tmp_path: Path,
) -> None:
    output = old_run(tmp_path)
    output.check_start()
    output.write_text("report.html", "new page")
    output.write_text("figures/sandwich.png", "new figure")
    output.remove(["figures/holiday.png"])
    expected = {"report.html": "new page", "figures/sandwich.png": "new figure"}
    assert expected | {"figures/holiday.png": "photograph"} == {
        name: text for name, text in tree(tmp_path).items() if name != "manifest.json"
    }
    (tmp_path / "summary.json").write_text("put there since")
    with pytest.raises(RunError, match="not written by robustcl"):
        output.write_text("summary.json", "")
    with pytest.raises(RunError, match=r"holds 'summary\.json', which robustcl did not write"):
        output.check_start()  # before a run, not after it
    output.remove(["figures/sandwich.png"])  # which is ours since we wrote it
    assert "figures/sandwich.png" not in tree(tmp_path)


@pytest.mark.parametrize("damage", ["{", '{"files": ["../x"], "schema": 1}', "\xff", "[]", "null"])
def test_a_damaged_list_is_set_aside_and_nothing_is_removed(damage: str, tmp_path: Path) -> None:
    output = OutputFolder(tmp_path)
    output.write_text("manifest.json", '{"config_hash": "a"}')
    output.write_text("figures/a.png", "ours")
    (tmp_path / LISTING).write_text(damage, encoding="latin-1")
    output.remove(["figures/a.png", "../x"])
    output.check_start()
    output.write_text("figures/a.png", "ours again")
    assert tree(tmp_path)["figures/a.png"] == "ours again"
    assert (tmp_path / "files.damaged.json").read_text(encoding="latin-1") == damage


def test_a_list_that_was_edited_gives_nothing_away(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path)
    output.write_text("manifest.json", '{"config_hash": "a"}')
    (tmp_path / "photo.png").write_text("theirs")
    place = tmp_path / LISTING
    content = json.loads(place.read_text())
    place.write_text(json.dumps({**content, "files": [*content["files"], "photo.png"]}))
    output.remove(["photo.png"])
    assert tree(tmp_path)["photo.png"] == "theirs"


def test_a_full_disk_appends_all_or_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        output, line, whole = OutputFolder(disk / "run"), b"x" * 9999 + b"\n", 0

        def fill() -> None:
            nonlocal whole
            while True:
                output.append("records-0.jsonl", line * 7)
                whole += 1

        with pytest.raises(OSError, match="No space"):
            fill()
        assert (disk / "run" / "records-0.jsonl").stat().st_size == whole * len(line) * 7 > 0


def test_processes_list_side_by_side(tmp_path: Path) -> None:
    children = []
    for rank in range(4):
        child = os.fork()
        if not child:
            for number in range(10):
                OutputFolder(tmp_path).write_text(f"arrays/{rank}.{number}.npz", "")
            os._exit(0)
        children.append(child)
    assert all(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in children)
    assert len(OutputFolder(tmp_path).listed()) == 40


def test_a_second_session_is_refused_and_a_dead_one_blocks_nobody(tmp_path: Path) -> None:
    def dies() -> None:
        with session_lock(tmp_path / ".session-0", "'run'"):
            os.kill(os.getpid(), 9)

    assert forked(dies) == -9
    with session_lock(tmp_path / ".session-0", "'run'"), session_lock(tmp_path / ".session-1", ""):
        with (
            pytest.raises(RunError, match=rf"'run' is in use by process {os.getpid()} on .* since"),
            session_lock(tmp_path / ".session-0", "'run'"),
        ):
            pass
        with changing(tmp_path), changing(tmp_path):  # may be entered again
            pass
    assert [entry.name for entry in tmp_path.iterdir()] == [".lock"]


def test_a_lock_that_is_a_link_or_cannot_be_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / ".lock").symlink_to("theirs")
    with pytest.raises(RunError, match=r"\.lock' is no ordinary file"):
        OutputFolder(tmp_path).write_text("a", "")
    assert (tmp_path / "theirs").read_text() == "theirs"

    def refuses(lock: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("robustcl.core.locks.FileLock.acquire", refuses)
    with pytest.raises(RunError, match="disk has no file locks"), session_lock(tmp_path / "s", ""):
        pass
