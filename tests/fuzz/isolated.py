"""Run a command in a forked child, bounded in time and memory and watched by an audit hook."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.case import Case, Ended

PROGRAMS = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"),
    *("os.fork", "os.forkpty", "os.startfile"),
)
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.bind", "urllib.Request")
PICKLES = ("pickle.find_class",)
ALLOWED = ("copy", "torch._utils")  # modules whose classes copying and torch's own reader look up
SECONDS = 30  # of the processor, for one command on a few small images
WALL = 120.0  # on a machine that is busy with other things
MEMORY = 4 * 2**30  # bytes of address space beyond what the package itself has mapped


def run_forked(case: Case, folder: Path) -> Ended:
    """Run a command in a child of this process, which has loaded the package.

    Args:
        case: The command.
        folder: Where it runs, and where its output is kept, in `.fuzz`.

    Returns:
        How it ended.
    """
    kept = folder / ".fuzz"
    kept.mkdir(exist_ok=True)
    for name in ("out", "err", "events"):
        (kept / name).write_bytes(b"")
    sys.stdout.flush()
    sys.stderr.flush()
    base = _resident()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = _in_child(case, folder, kept)
        except BaseException as error:  # noqa: BLE001 - whatever leaves a command is a fault
            os.write(2, f"left the command: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)
    status, usage = _wait(child)
    code = None if status is None else os.waitstatus_to_exitcode(status)
    used = 0.0 if usage is None else usage.ru_utime + usage.ru_stime
    peak = 0.0 if usage is None else usage.ru_maxrss / 1024 - base
    out, err = (
        (kept / name).read_text(encoding="utf-8", errors="replace") for name in ("out", "err")
    )
    events = (kept / "events").read_text(encoding="utf-8", errors="replace").splitlines()
    if code is not None and code < 0:
        code = None if -code in (signal.SIGXCPU, signal.SIGKILL) else 128 - code
    return Ended(code, out, err, used, max(peak, 0.0), tuple(dict.fromkeys(events)))


def run_apart(case: Case, folder: Path) -> Ended:
    """Run a command as a process of its own, as a user would.

    Args:
        case: The command.
        folder: Where it runs.

    Returns:
        How it ended; memory and events are not watched.
    """
    kept = folder / ".fuzz"
    kept.mkdir(exist_ok=True)
    root = Path(__file__).parents[2]
    program = "certify" if case.program == "certify" else "robustcl"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", program, *case.words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(kept)},
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=WALL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Ended(None, "", "", WALL, 0.0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    out, err = (part.decode("utf-8", "replace") for part in (ended.stdout, ended.stderr))
    return Ended(ended.returncode, out, err, used, 0.0)


def _wait(child: int) -> tuple[int | None, resource.struct_rusage | None]:
    ends = time.monotonic() + WALL
    while time.monotonic() < ends:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return status, usage
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.wait4(child, 0)
    return None, None


def _in_child(case: Case, folder: Path, kept: Path) -> int:
    from robustcl.cli import main as cli

    os.setpgid(0, 0)
    os.chdir(folder)
    home = folder / "home"
    for name, value in {"TMPDIR": kept, "HOME": home, "XDG_CACHE_HOME": home}.items():
        os.environ[name] = str(value)
    tempfile.tempdir = str(kept)  # which this process found out before
    _redirect(kept)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    events = os.open(kept / "events", os.O_WRONLY | os.O_APPEND)
    sys.addaudithook(lambda name, arguments: _note(events, name, arguments))
    sys.argv = [case.program, *case.words]
    try:
        code = getattr(cli, case.program)(list(case.words))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(f"{folder}/"):
            os.write(events, f"imported {name} from the case\n".encode())
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _redirect(kept: Path) -> None:
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(kept / name, os.O_WRONLY | os.O_APPEND)
        os.dup2(handle, number)
        os.close(handle)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    # pytest and others put streams of their own in the place of the real ones.
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _note(events: int, name: str, arguments: tuple[object, ...]) -> None:
    strange = name in PICKLES and not str(arguments[0]).startswith(ALLOWED)
    if strange or name in PROGRAMS or name in NETWORK:
        os.write(events, f"{name} {arguments!r:.200}\n".encode(errors="replace"))


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
