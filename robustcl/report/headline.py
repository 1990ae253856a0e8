"""Say the result of a run in a few sentences, with norm, guarantee and subject."""

import math

from robustcl.report.numbers import interval_text, norm_name, percent, radius_text
from robustcl.runs.summary import Summary


def headline(summary: Summary) -> str:
    """Say what is proved, what attacks left, and what neither decides.

    Args:
        summary: Of a run.

    Returns:
        The sentences.
    """
    norm = norm_name(summary.norm)
    place = f"At {norm} radius {radius_text(summary.headline_radius, summary.norm)}"
    parts = []
    if summary.headline_certified is None:
        parts.append(
            f"{place}, nothing is certified: the run has no deterministic certificate for the "
            "model."
        )
    else:
        parts.append(
            f"{place}, {percent(summary.headline_certified)} "
            f"{interval_text(summary.headline_interval95)} of {summary.n:,} images are "
            f"classified correctly with a deterministic guarantee for {_subject(summary)}"
            f"{_attacked_clause(summary)}."
        )
    if not summary.by_attack:
        parts.append("No attack was run, so there is no upper bound beside it.")
    if summary.abstained:
        images = f"{summary.abstained:,} image{'' if summary.abstained == 1 else 's'}"
        parts.append(f"The model abstains on {images}, which count as wrong.")
    parts.append(_medians(summary, norm))
    return " ".join(part for part in parts if part)


def estimate_sentences(summary: Summary) -> list[str]:
    """Say how far estimates exceed a radius at which the class was left.

    Args:
        summary: Of a run.

    Returns:
        One sentence per estimate.
    """
    return [
        f"{name}: "
        + _against_attacks(
            norm_name(summary.norm), entry["exceeds"], entry["n"], entry["largest_ratio"]
        )
        for name, entry in summary.estimates.items()
    ]


def ratio_text(ratio: float | None) -> str:
    """Spell an estimate over the attacked radius.

    Args:
        ratio: The quotient; None: not measured.

    Returns:
        Three significant digits, or a dash.
    """
    if ratio is None:
        return "–"
    return f"{ratio:.3g}" if math.isfinite(ratio) else "∞"


def _against_attacks(norm: str, exceeds: int, n: int, largest: float | None) -> str:
    if not n:
        return f"no attacked {norm} radius to set the estimate against; an estimate proves nothing"
    images = f"{exceeds:,} of {n:,} image{'' if n == 1 else 's'}"
    if not exceeds:
        return (
            f"larger than the attacked {norm} radius on {images}, at most {ratio_text(largest)} "
            "times it; an estimate proves nothing nevertheless"
        )
    return (
        f"larger than the attacked {norm} radius on {images}, up to {ratio_text(largest)} times: "
        "an estimate proves nothing"
    )


def _subject(summary: Summary) -> str:
    # All deterministic claims of a run that enter its curves are about one subject.
    several = "multi-view model"
    claims = summary.by_method.values()
    found = any(claim["subject"] == several for claim in claims)
    return f"the {several}" if found else "the model itself"


def _attacked_clause(summary: Summary) -> str:
    if summary.headline_attacked is None:
        return ""
    return f"; attacks left {percent(summary.headline_attacked)} correct"


def _medians(summary: Summary, norm: str) -> str:
    found = []
    if summary.median_certified_radius is not None:
        certified = radius_text(summary.median_certified_radius, summary.norm)
        found.append(f"median certified {norm} radius {certified}")
    if summary.median_attacked_radius is not None:
        attacked = radius_text(
            summary.median_attacked_radius, summary.norm, largest_eps=summary.largest_eps
        )
        start = "beside attacked median" if found else f"median attacked {norm} radius"
        found.append(f"{start} {attacked}")
    if not found:
        return ""
    text = " ".join(found)
    return f"{text[0].upper()}{text[1:]} (wrong images count 0)."
