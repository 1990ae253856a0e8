"""State one malformed input: what is written, which command gets it, and what it must say."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BAD_INPUT = 2


@dataclass(frozen=True)
class Case:
    """One command on files that `build` has written.

    Args:
        program: certify or robustcl.
        words: Its arguments.
        codes: Exit codes that are right; 2 alone where the input is surely malformed.
        names: One of these must stand in the error line: the file, the field or the value.
        out: What the command may write to, relative to the case's folder.
        inside: Whether only the files that were there before matter, also inside of `out`.
    """

    program: str
    words: Sequence[str]
    codes: frozenset[int] = frozenset({BAD_INPUT})
    names: tuple[str, ...] = ()
    out: str = "out"
    kept: tuple[str, ...] = ()


Build = Callable[[random.Random, Path, Path], Case]
"""Draws, the case's own empty folder, and the folder of good originals."""


@dataclass(frozen=True)
class Kind:
    """A kind of malformed input.

    Args:
        name: What tables call it.
        build: Writes the input and states the case.
        share: How often it is drawn, relative to the others.
    """

    name: str
    build: Build
    share: float = 1.0


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: Its exit code; 128 + N after signal N; None when time ran out.
        out: What it wrote on stdout.
        err: What it wrote on stderr.
        seconds: Processor time.
        mebibytes: Memory that it took beyond what the package itself takes.
        events: What the audit hook saw.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    mebibytes: float
    events: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A case and what was wrong with it.

    Args:
        kind: Of the input.
        seed: That builds it again.
        case: What was run.
        ended: How it ended.
        faults: A sentence each; none where all is well.
    """

    kind: str
    seed: int
    case: Case
    ended: Ended
    faults: tuple[str, ...] = field(default_factory=tuple)
