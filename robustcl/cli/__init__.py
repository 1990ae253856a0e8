"""The command line: one file per command."""

from robustcl.cli.main import CERTIFY, ROBUSTCL, certify, robustcl

__all__ = ["CERTIFY", "ROBUSTCL", "certify", "robustcl"]
