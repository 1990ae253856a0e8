"""Open the command line, so that `python -m robustcl.certify` works under torchrun."""

from robustcl.cli.main import certify

if __name__ == "__main__":
    raise SystemExit(certify())
