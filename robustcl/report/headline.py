"""Say the result of a run in a few sentences, with norm, guarantee and subject."""

import math
from collections.abc import Mapping
from typing import Any

from robustcl.core.numbers import interval_text, norm_name, percent, radius_text
from robustcl.records.reading import Run
from robustcl.records.summary import Summary

_HALF_POINT = 0.005


def headline(summary: Summary) -> str:
    """Say what is proved, what attacks left, and what neither decides.

    Args:
        summary: Of a run.

    Returns:
        The sentences.
    """
    norm = norm_name(summary.norm)
    keep = "are classified correctly" if summary.labeled else "keep their predicted class"
    place = f"At {norm} radius {radius_text(summary.headline_radius, summary.norm)}"
    parts = []
    if summary.headline_certified is None:
        parts.append(
            f"{place}, nothing is certified for the model itself: the run has no deterministic "
            f"certificate{_attacked_clause(summary)}."
        )
    else:
        parts.append(
            f"{place}, {percent(summary.headline_certified)} "
            f"{interval_text(summary.headline_interval95)} of {summary.certified_n:,} images "
            f"{keep} with a deterministic guarantee for {_subject(summary)}"
            f"{_attacked_clause(summary)}."
        )
    if not summary.by_attack:
        parts.append("No attack was run to its end, so there is no upper bound beside it.")
    if summary.abstained:
        images = f"{summary.abstained:,} image{'' if summary.abstained == 1 else 's'}"
        parts.append(f"The model abstains on {images}, which count as wrong.")
    parts.append(_medians(summary, norm))
    return " ".join(part for part in parts if part)


def clean_sentence(summary: Summary) -> str:
    """Say how many images are right without a perturbation.

    Args:
        summary: Of a run.

    Returns:
        One sentence; that there is no accuracy where the data has no labels.
    """
    if summary.clean_accuracy is None:
        return (
            f"no labels, so no accuracy: rates are shares of the {summary.n:,} images that keep "
            "their predicted class"
        )
    return (
        f"clean accuracy: {percent(summary.clean_accuracy)} {interval_text(summary.interval95)} of "
        f"{summary.n:,} images"
    )


def reference_sentence(run: Run, summary: Summary) -> tuple[str, bool]:
    """Compare the clean accuracy with what the model is said to have.

    Args:
        run: The run.
        summary: Of it.

    Returns:
        One sentence, '' where nothing is known, and whether it is a warning: the known accuracy
        lies more than half a point outside the 95 % interval.
    """
    known = run.manifest.get("reference")
    if not known or summary.clean_accuracy is None or summary.interval95 is None:
        return "", False
    low, high = summary.interval95
    stated, name = float(known["accuracy"]), known["name"]
    said = f"the reference ({name}) is {percent(stated)}"
    if low - _HALF_POINT <= stated <= high + _HALF_POINT:
        return f"the clean accuracy agrees with what is known of the model: {said}", False
    return (
        f"the clean accuracy {percent(summary.clean_accuracy)} {interval_text(summary.interval95)} "
        f"is not what is known of the model: {said}. Other images or another quality of them would "
        "explain it, and so would a wrong normalization, size, or order of classes",
        True,
    )


def method_sentences(summary: Summary) -> list[str]:
    """Say what each certificate gives that the headline is not about.

    Args:
        summary: Of a run.

    Returns:
        One sentence per probabilistic certificate.
    """
    keep = "stay correct" if summary.labeled else "keep their class"
    place = f"{norm_name(summary.norm)} {radius_text(summary.headline_radius, summary.norm)}"
    return [
        f"{name}, {entry['guarantee']}, about the {entry['subject']}: "
        f"{percent(entry['at_headline'])}{_interval(entry, summary)} of {entry['n']:,} images "
        f"{keep} within {place}, "
        f"median radius {radius_text(entry['median'], summary.norm)}, {entry['abstained']:,} "
        "abstained"
        for name, entry in summary.by_method.items()
        if entry["guarantee"] == "probabilistic"
    ]


def _interval(entry: Mapping[str, Any], summary: Summary) -> str:
    return "" if entry["n"] == summary.n else f" {interval_text(entry['interval95'])}"


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
    left = "correct" if summary.labeled else "unchanged"
    alike = summary.headline_certified is not None and summary.attacked_n == summary.certified_n
    if alike or (summary.headline_certified is None and summary.attacked_n == summary.n):
        return f"; attacks left {percent(summary.headline_attacked)} {left}"
    interval = interval_text(summary.attacked_interval95)
    return (
        f"; attacks left {percent(summary.headline_attacked)} {interval} of "
        f"{summary.attacked_n:,} images {left}{_without(summary)}"
    )


def _without(summary: Summary) -> str:
    # Beside a rate over fewer images than the clean accuracy, that of the same images.
    if not summary.labeled or summary.attacked_without is None or summary.attacked_n == summary.n:
        return ""
    return f" ({percent(summary.attacked_without)} of these are right without an attack)"


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
    counted = " (wrong images count 0)" if summary.labeled else ""
    return f"{text[0].upper()}{text[1:]}{counted}."
