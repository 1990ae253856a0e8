"""Find what a reader of the numbers should be warned of."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false

import pandas as pd

from robustcl.core.numbers import norm_name, percent, radius_text
from robustcl.records.arrays import array_faults
from robustcl.records.images import model_attacks, per_image, sound_certificates
from robustcl.records.reading import Run
from robustcl.records.summary import Summary

FEW_IMAGES = 100


def flags(run: Run, summary: Summary) -> list[str]:
    """List warnings, each one sentence.

    Args:
        run: The run.
        summary: Of the run.

    Returns:
        The warnings; what checks of the model found is in `flagged_images.model_flags`.
    """
    return [
        *run.notes,
        *(f"A figure is missing or lacks images: {why}." for _, why in array_faults(run.folder)),
        *_coverage(run, summary),
        *_attacks(run, summary),
        *_predictions(run, summary),
    ]


def _coverage(run: Run, summary: Summary) -> list[str]:
    found = []
    expected = int(run.manifest.get("num_examples") or summary.n)
    if not run.manifest.get("complete", False):
        found.append("The run is not complete; images without a record count as not certified.")
    if summary.n < expected:
        found.append(f"Only {summary.n} of {expected} images were evaluated.")
    if summary.n < FEW_IMAGES:
        found.append(f"{summary.n} images are few; look at the intervals before the rates.")
    for name, entry in {**summary.by_method, **summary.by_attack}.items():
        if entry["n"] < summary.n:
            found.append(f"{name} has records for {entry['n']} of {summary.n} images only.")
    return found


def _attacks(run: Run, summary: Summary) -> list[str]:
    if summary.largest_eps is None:
        return []
    images = per_image(run)
    kept = float((images["fooled"] == float("inf")).mean())
    where = f"{norm_name(summary.norm)} {radius_text(summary.largest_eps, summary.norm)}"
    found = []
    if kept > 0:
        found.append(
            f"{percent(kept)} of the images withstood every attack up to the largest eps ({where});"
            " this is where the search ended, not a proof."
        )
    rates = [rate for _, rate in summary.attacked_accuracy]
    if kept == 1.0 and any(rate > 0 for rate in rates):
        found.append("No attack found anything at all; try larger eps or check the gradients.")
    return found


def _predictions(run: Run, summary: Summary) -> list[str]:
    images, found = per_image(run), []
    for table, what in ((sound_certificates(run), "certificates"), (model_attacks(run), "attacks")):
        known = images["predicted"].reindex(table["index"]).to_numpy()
        other = table[(table["predicted"].to_numpy() != known) & (table["predicted"] >= 0)]
        named = ", ".join(str(i) for i in sorted(pd.unique(other["index"]))[:10])
        if len(other):
            found.append(
                f"{len(other)} {what} speak of another class than the clean prediction and are left"
                f" out (images {named}{', …' if other['index'].nunique() > 10 else ''})."
            )
    if images["predicted"].nunique() == 1 and images["label"].nunique() > 1:
        found.append("The model gives every image the same class: it has collapsed.")
    if summary.by_method and not summary.certified_accuracy:
        found.append("No deterministic certificate for the model itself was asked for.")
    return found
