"""Say what is wrong with how a command ended."""

import re

from tests.fuzz.case import BAD_INPUT, Case, Ended

MOST_MEMORY = 1024.0  # MiB
LONGEST = 2000  # characters of an error line


def faults_of(case: Case, ended: Ended, changed: list[str]) -> list[str]:
    """Judge one command.

    Args:
        case: What was run.
        ended: How it ended.
        changed: What changed outside of where the command may write.

    Returns:
        A sentence per fault.
    """
    said = [f"outside --out: {one}" for one in changed]
    said += [f"audit: {event}" for event in ended.events]
    if ended.code is None:
        return [*said, f"ran out of time or memory ({ended.seconds:.0f} s)"]
    if ended.code not in case.codes:
        wanted = " or ".join(map(str, sorted(case.codes)))
        said.append(f"exit code {ended.code}, not {wanted}: {ended.err[-300:]!r}")
    both = ended.out + ended.err
    if "Traceback (most recent call last)" in both:
        said.append(f"traceback: {ended.err[-400:]!r}")
    if ended.mebibytes > MOST_MEMORY:
        said.append(f"took {ended.mebibytes:.0f} MiB")
    strange = re.search(
        r"[^\n\t\x20-\x7e\x80-\U0010ffff]|[\x80-\x9f\u2028\u2029\u202a-\u202e]", both
    )
    if strange:
        said.append(f"wrote the control character {strange[0]!r}")
    if ended.code == BAD_INPUT:
        said += _faults_of_line(case, ended)
    return said


def _faults_of_line(case: Case, ended: Ended) -> list[str]:
    lines = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    last = (ended.err.splitlines() or [""])[-1]
    if len(lines) != 1 or last != lines[0]:
        return [f"no one error line at the end: {ended.err[-300:]!r}"]
    if len(last) > LONGEST:
        return [f"an error line of {len(last)} characters: {last[:200]!r}"]
    if case.names and not any(name in last for name in case.names):
        return [f"the error names none of {case.names}: {last!r}"]
    return []
