"""List the sessions that made a run, and refuse to mix versions unless told to.

A session is one process from its start to its end. Records depend on the version of robustcl and on
that of torch, and hardly on the rest: another machine, device or patch of a package may go on with
a run, as on a cluster, and the manifest then lists both. `--mixed-versions` takes another robustcl
or torch as well.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from robustcl.core.errors import RunError
from robustcl.records.ranks import rank, rank_count

STRICT = {"robustcl": 3, "torch": 2}  # parts of the version that must agree


def new_session(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """State a session that begins now.

    Args:
        manifest: As this session would begin the run: with its versions, device and command.

    Returns:
        An entry of `sessions`.
    """
    return {
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "process": f"{rank()} of {rank_count()}",
        "versions": dict(manifest.get("versions") or {}),
        "device": str(manifest.get("device", "")),
        "command": str(manifest.get("command", "")),
        "images": "",
    }


def sessions_of(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the sessions of a run.

    Args:
        manifest: Of the run.

    Returns:
        Its entries; of an older run one, which stands for all that there were.
    """
    listed = manifest.get("sessions")
    if listed:
        return [dict(entry) for entry in listed]
    known = ("versions", "device", "command")
    old = {key: manifest[key] for key in known if key in manifest}
    return [{"begun": str(manifest.get("created", "")), **old, "images": ""}]


def compare_sessions(
    folder: str, before: Sequence[Mapping[str, Any]], now: Mapping[str, Any], *, mixed: bool
) -> list[str]:
    """Compare a session with those before it.

    Args:
        folder: The run folder, for the message.
        before: Sessions of the run.
        now: The session that wants to go on.
        mixed: Whether other versions of robustcl and torch may go on.

    Returns:
        A line about what differs from the last session; nothing where all is the same.

    Raises:
        RunError: When no session had these versions of robustcl and torch, and `mixed` is off.
    """
    own = now.get("versions") or {}
    others = [entry.get("versions") or {} for entry in before if entry.get("versions")]
    for package in () if mixed else STRICT:
        known = {_short(versions, package): versions.get(package) for versions in others}
        if known and _short(own, package) not in known:
            raise RunError(
                f"{folder!r} was made by {package} {' and '.join(map(str, known.values()))}, this "
                f"is {own.get(package)}, whose numbers may differ; install that version, give a "
                "new --out, or add --mixed-versions, which goes on and records both"
            )
    if not before:
        return []
    changed = _changes(before[-1], now)
    return [f"earlier records are by {changed}; the manifest lists both"] if changed else []


def session_notes(manifest: Mapping[str, Any]) -> list[str]:
    """Say where sessions of a run differ.

    Args:
        manifest: Of the run.

    Returns:
        A sentence; nothing where they do not.
    """
    sessions = manifest.get("sessions") or ()
    names = ["device", *sorted({name for s in sessions for name in s.get("versions") or {}})]
    found = []
    for name in names:
        values = [
            str(s.get("device") if name == "device" else (s.get("versions") or {}).get(name))
            for s in sessions
        ]
        if len(set(values)) > 1:
            found.append(f"{name} ({', '.join(dict.fromkeys(values))})")
    if not found:
        return []
    return [f"The sessions that made the records differ in {'; '.join(found)}."]


def image_ranges(images: Iterable[int]) -> str:
    """Spell which images are meant.

    Args:
        images: Their indices, in any order.

    Returns:
        Ranges with both ends, as in '0-127,256'.
    """
    ordered = np.unique(np.fromiter(images, dtype=np.int64))
    if not len(ordered):
        return ""
    parts = np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1)
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)


def _short(versions: Mapping[str, Any], package: str) -> str:
    plain = str(versions.get(package, "")).partition("+")[0]
    return ".".join(plain.split(".")[: STRICT[package]])


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    was, own = before.get("versions") or {}, now.get("versions") or {}
    found = [
        f"{package} {was[package]} (this is {own[package]})"
        for package in sorted(was.keys() & own.keys())
        if was[package] != own[package]
    ]
    if before.get("device") and before.get("device") != now.get("device"):
        found.append(f"{before['device']} (this is {now.get('device')})")
    return ", ".join(found)
