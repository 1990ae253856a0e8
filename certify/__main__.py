"""Open the command line, so that `python -m certify` works under torchrun."""

from robustcl.cli import certify

if __name__ == "__main__":
    raise SystemExit(certify())
