"""Print the table of claims."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

import attacks
import certify
from robustcl.commands.options import emit


@dataclass(frozen=True, kw_only=True)
class MethodsOptions:
    """Print what each certificate claims, and the attacks.

    Args:
        json: Write one JSON object on stdout.
    """

    json: bool = False


def methods(options: MethodsOptions) -> int:
    """Run `certify methods`.

    Args:
        options: The options.

    Returns:
        The exit code.
    """
    rows = [
        (m.name, ", ".join(m.norms), m.guarantee, m.subject, m.claim, m.reference)
        for m in certify.METHODS.values()
    ]
    heads = ("method", "norms", "guarantee", "subject", "claim", "reference")
    if options.json:
        found = {name: entry.claim for name, entry in attacks.ATTACKS.items()}
        emit({"methods": [dict(zip(heads, row, strict=True)) for row in rows], "attacks": found})
        return 0
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(_table("certificates: what is claimed, about which model", heads, rows))
    rows = [(name, entry.claim, entry.reference) for name, entry in attacks.ATTACKS.items()]
    heads = ("attack", "what it does", "reference")
    console.print(_table("attacks: every find is verified", heads, rows))
    return 0


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title)
    for head in heads:
        # A name, a guarantee or a subject is never cut short.
        table.add_column(head, no_wrap=head not in ("claim", "what it does", "reference"))
    for row in rows:
        table.add_row(*row)
    return table
