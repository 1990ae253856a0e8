"""Name what can go wrong: one small tree of exceptions.

Abstaining and not finding an adversarial are values, not exceptions.
"""


class RobustclError(Exception):
    """Something the caller can put right; the message quotes the value and says the cure."""


class InputError(RobustclError, ValueError):
    """An argument, an option or the data is not usable."""


class CheckpointError(RobustclError):
    """A checkpoint cannot be read, or does not fit the network."""


class UnsupportedError(RobustclError):
    """A method cannot treat this network; the message names the place and what still works."""


class RunError(RobustclError):
    """A run folder cannot be used, or a computation did not end well."""


class ViolationError(RobustclError):
    """An attack beat a deterministic certificate: one of the two is wrong."""
