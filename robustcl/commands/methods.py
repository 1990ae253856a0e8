"""Print the table of claims."""

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
    table = Table(*heads, title="certificates: what is claimed, about which model")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    table = Table("attack", "what it does", "reference", title="attacks: every find is verified")
    for name, entry in attacks.ATTACKS.items():
        table.add_row(name, entry.claim, entry.reference)
    console.print(table)
    return 0
