"""Print the table of claims, without loading what computes them."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from robustcl.core.terminal import answer, emit
from robustcl.declarations.attacks import ATTACK_ROWS
from robustcl.declarations.claims import CLAIMS
from robustcl.options.methods import MethodsOptions


def methods(options: MethodsOptions) -> int:
    """Run `certify methods`.

    Args:
        options: The options.

    Returns:
        The exit code.
    """
    rows = [
        (row.name, ", ".join(row.norms), row.guarantee, row.subject, row.claim, row.reference)
        for row in CLAIMS
    ]
    heads = ("method", "norms", "guarantee", "subject", "claim", "reference")
    if options.json:
        found = {name: row.claim for name, row in ATTACK_ROWS.items()}
        content = {"methods": [dict(zip(heads, row, strict=True)) for row in rows]}
        emit({**content, "attacks": found})
        return 0
    console = Console(width=None if sys.stdout.isatty() else 140, color_system=None)
    tables = [_table("certificates: what is claimed, about which model", heads, rows)]
    rows = [(name, row.claim, row.reference) for name, row in ATTACK_ROWS.items()]
    heads = ("attack", "what it does", "reference")
    tables.append(_table("attacks: every find is verified", heads, rows))
    with console.capture() as drawn:  # Rich itself would end the process where a reader goes away
        for table in tables:
            console.print(table)
    for line in drawn.get().splitlines():
        answer(line)
    return 0


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title)
    for head in heads:
        # A name, a guarantee or a subject is never cut short.
        table.add_column(head, no_wrap=head not in ("claim", "what it does", "reference"))
    for row in rows:
        table.add_row(*row)
    return table
