"""Open the command line, so that `python -m robustcl` works under torchrun."""

from robustcl.cli.main import robustcl

if __name__ == "__main__":
    raise SystemExit(robustcl())
