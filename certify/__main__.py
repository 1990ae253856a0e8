"""Open the command line, so that `python -m robustcl.certify` works under torchrun."""

import sys
from typing import NoReturn

from robustcl.cli.main import certify


def start_without_torch() -> NoReturn:
    """Run the command although the package, and torch with it, is not loaded yet.

    `python -m robustcl.certify` imports the package before this file; the package calls this then.

    Raises:
        SystemExit: With the exit code.
    """
    for name in (
        "robustcl.certify",
        "robustcl.certify.__main__",
    ):  # loaded anew when the command needs them
        del sys.modules[name]
    sys.argv[0] = "certify"
    raise SystemExit(certify())


if __name__ == "__main__":
    raise SystemExit(certify())
