"""Find where an attack beat a deterministic certificate."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from robustcl.core.lazy import lazily
from robustcl.records.writing import slug

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazily("pandas")

_SLACK = 1e-9  # of an attacked radius, for the rounding of its last digit


def violations(sound: pd.DataFrame, attacks: pd.DataFrame) -> tuple[list[dict[str, Any]], int]:
    """Compare every certificate with every perturbation of the same image that was found.

    A certificate is about the real-arithmetic network with the stored weights; what float32 rounds
    over the edge does not count: radii are confirmed in float64, beyond its own rounding, and older
    records say by `in_float64` where they are not.

    Args:
        sound: Deterministic certificates of the model, with a number as radius.
        attacks: Attacks on the model; `radius` is infinite or None where none was found.

    Returns:
        Every certificate that was beaten, as index, method, certified, attack, attacked, and the
        number of pairs compared.
    """
    attacks = attacks.assign(radius=pd.to_numeric(attacks["radius"]).astype(float))
    found = attacks[np.isfinite(attacks["radius"]) & attacks["in_float64"].ne(False)]
    columns = ["index", "predicted", "method", "radius"]
    both = sound[columns].merge(found[columns], on=["index", "predicted"])
    beaten = both[both["radius_x"] > both["radius_y"] * (1 + _SLACK)]
    rows = beaten.sort_values(["index", "method_x", "method_y"])
    table = rows[["index", "method_x", "radius_x", "method_y", "radius_y"]]
    listed = [
        {"index": int(i), "method": m, "certified": float(c), "attack": a, "attacked": float(r)}
        for i, m, c, a, r in table.itertuples(index=False)
    ]
    return listed, len(both)


def violation_file(violation: Mapping[str, Any]) -> str:
    """Name the file in which a violation is saved.

    Args:
        violation: An entry of `violations`.

    Returns:
        The path within the run folder.
    """
    name = slug(str(violation["index"]), violation["method"], violation["attack"])
    return f"violations/{name}.safetensors"
