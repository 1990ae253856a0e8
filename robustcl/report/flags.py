"""Show the flags that checks of the model raised, and the images behind them."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
import base64
import io
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from robustcl.core.numbers import norm_name, percent, radius_text
from robustcl.records.arrays import array_faults, load_arrays
from robustcl.records.examples import load_examples
from robustcl.records.images import covered, model_attacks, per_image, sound_certificates
from robustcl.records.kinds import CERTIFIED_BALL
from robustcl.records.reading import Run
from robustcl.records.summary import Summary
from robustcl.report.headline import reference_sentence

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
        *_reference(run, summary),
        *_coverage(run, summary),
        *_attacks(run, summary),
        *_predictions(run, summary),
    ]


def _reference(run: Run, summary: Summary) -> list[str]:
    sentence, doubtful = reference_sentence(run, summary)
    return [f"{sentence[0].upper()}{sentence[1:]}."] if doubtful else []


def _coverage(run: Run, summary: Summary) -> list[str]:
    found = []
    expected = int(run.manifest.get("num_examples") or summary.n)
    if not run.manifest.get("complete", False):
        found.append("The run is not complete; rates are over the images that have records.")
    if summary.n < expected:
        found.append(f"Only {summary.n} of {expected} images were evaluated.")
    found += [
        f"No time was left for {name}: it says nothing here."
        for name, count in (run.manifest.get("prefixes") or {}).items()
        if not count and name != CERTIFIED_BALL
    ]
    least = min(summary.n, *(entry["n"] for entry in _entries(summary)), summary.n)
    if least < FEW_IMAGES:
        found.append(f"{least} images are few; look at the intervals before the rates.")
    for name, entry in {**summary.by_method, **summary.by_attack}.items():
        if entry["n"] < summary.n and not run.manifest.get("prefixes"):
            found.append(f"{name} has records for {entry['n']} of {summary.n} images only.")
    return found


def _entries(summary: Summary) -> list[dict[str, Any]]:
    return [*summary.by_method.values(), *summary.by_attack.values(), {"n": summary.n}]


def _attacks(run: Run, summary: Summary) -> list[str]:
    if summary.largest_eps is None:
        return []
    images = covered(model_attacks(run), per_image(run))
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
        found.append("There is no deterministic certificate for the model itself.")
    return found


def flags_of_model(run: Run) -> list[dict[str, Any]]:
    """Spell the flags of the manifest.

    Args:
        run: The run.

    Returns:
        Per flag its name, its sentence, the `images` that are shown below and how many `more`
        there are.
    """
    stored = load_arrays(run.folder, "flagged", lenient=True)
    shown = set(stored.get("index", np.array([])).tolist())
    return [
        {
            "name": flag["name"].replace("_", " "),
            "sentence": flag["sentence"],
            "images": [index for index in flag["images"] if index in shown],
            "more": sum(index not in shown for index in flag["images"]),
        }
        for flag in run.manifest.get("flags") or ()
    ]


def flagged_images(run: Run, summary: Summary) -> list[dict[str, Any]]:
    """Prepare a row for every flagged image whose pixels were kept.

    Args:
        run: The run.
        summary: Of the run.

    Returns:
        Per image its index, classes, attacked radius, flags and pictures as data addresses;
        without a perturbed picture and a difference where none is among the triples.
    """
    stored = load_arrays(run.folder, "flagged", lenient=True)
    triples = load_examples(run.folder)
    places = {int(index): place for place, index in enumerate(triples.get("index", ()))}
    images, rows = per_image(run), []
    for index, clean in zip(stored.get("index", ()), stored.get("clean", ()), strict=True):
        number = int(index)
        pictures = [_picture(clean)]
        if number in places:
            attacked = triples["attacked"][places[number]]
            change = attacked.astype(float) - clean
            gray = 0.5 + change / (2.0 * max(float(np.abs(change).max()), 1e-12))
            pictures += [_picture(attacked), _picture(gray)]
        row = images.loc[number] if number in images.index else None
        rows.append({"index": number, "pictures": pictures, **_words(run, summary, row, number)})
    return rows


def _words(run: Run, summary: Summary, row: Any, number: int) -> dict[str, Any]:
    flags = [
        flag["name"].replace("_", " ")
        for flag in run.manifest.get("flags") or ()
        if number in flag["images"]
    ]
    if row is None:
        return {"flags": flags, "label": "–", "predicted": "–", "radius": "–"}
    names = run.manifest.get("class_names") or ()
    label, predicted = (
        "none" if k < 0 else str(names[k]) if k < len(names) else str(k)
        for k in (int(row["label"]), int(row["predicted"]))
    )
    largest = summary.largest_eps
    radius = radius_text(float(row["attacked"]), summary.norm, largest_eps=largest)
    known = largest is not None or np.isfinite(float(row["attacked"]))
    return {
        "flags": flags,
        "label": label,
        "predicted": predicted,
        "radius": radius if known else "–",
    }


def _picture(image: np.ndarray) -> str:
    # (C, H, W) in [0, 1] to a PNG as a data address.
    pixels = np.rint(255.0 * np.clip(image.astype(np.float64), 0.0, 1.0)).astype(np.uint8)
    plain = pixels[:3].transpose(1, 2, 0) if len(pixels) >= 3 else pixels[0]
    stream = io.BytesIO()
    Image.fromarray(plain).save(stream, format="png")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
