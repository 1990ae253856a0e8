"""Collect the kinds of malformed input."""

from collections.abc import Callable

from tests.fuzz.case import Build, Kind

KINDS: dict[str, Kind] = {}


def kind(name: str, *, share: float = 1.0) -> Callable[[Build], Build]:
    """Register a builder under a name.

    Args:
        name: What tables call it.
        share: How often it is drawn, relative to the others.

    Returns:
        A decorator that leaves the builder as it is.
    """

    def registered(build: Build) -> Build:
        KINDS[name] = Kind(name, build, share)
        return build

    return registered
