"""Prepare the data of every figure and draw it: records in, pictures out."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false

import io
import warnings
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from robustcl.core.numbers import norm_name, radius_text, seconds_text
from robustcl.records.arrays import load_arrays
from robustcl.records.examples import load_examples
from robustcl.records.images import (
    counted_radii,
    covered,
    model_attacks,
    per_image,
    run_subject,
    sound_certificates,
)
from robustcl.records.reading import Run
from robustcl.records.summary import Summary, estimate_pairs
from robustcl.report.certified_attacked import certified_attacked_curve
from robustcl.report.convergence import FEWEST, convergence, convergences
from robustcl.report.escape import plain_texts
from robustcl.report.examples import example_images
from robustcl.report.plots import (
    Drawing,
    embedding_map,
    principal_components,
    radius_histogram,
    radius_label,
    radius_scatter,
    short_name,
)
from robustcl.report.tables import RADIUS_UNITS, WHOLE, budget, budget_table, estimates

STYLE = Path(__file__).with_name("style.mplstyle")
LOG_RATIO = 0.2  # typical certified / attacked radius below which axes are logarithmic
_MOST_IMAGES = 4  # of each kind in the triples
_BINS = 30


def drawings(run: Run, summary: Summary) -> list[Drawing]:
    """Prepare every figure that the run has data for.

    Args:
        run: The run.
        summary: Of the run.

    Returns:
        The figures.
    """
    makers = (
        *(_sandwich, _scatter, _histogram, _embeddings, _triples, _estimates),
        *(_convergence, _nearing, _budget),
    )
    found = (maker(run, summary) for maker in makers)
    return [drawing for drawing in found if drawing is not None]


def draw(drawing: Drawing, *, form: str) -> bytes:
    """Draw a figure, the same bytes every time.

    Args:
        drawing: The figure.
        form: 'png' or 'svg'.

    Returns:
        The content of the file.
    """
    with matplotlib.style.context(STYLE), warnings.catch_warnings():
        # Names of classes may be in any script; a letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=drawing.size)
        FigureCanvasAgg(figure)
        drawing.draw(figure.add_subplot())
        plain_texts(figure)
        stream = io.BytesIO()
        plain = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
        figure.savefig(stream, format=form, metadata=plain)
    return stream.getvalue()


def _sandwich(run: Run, summary: Summary) -> Drawing | None:
    names, subject = list(summary.by_method), run_subject(run)
    others = {
        f"{short_name(name, names)} ({entry['guarantee']}, {entry['subject']})": entry["curve"]
        for name, entry in summary.by_method.items()
        if entry["guarantee"] == "probabilistic"
        or (entry["guarantee"] == "deterministic" and entry["subject"] != subject)
    }
    if not (summary.certified_accuracy or summary.attacked_accuracy or others):
        return None
    return Drawing(
        "sandwich",
        (8.0, 4.2),
        lambda ax: certified_attacked_curve(
            ax,
            certified=summary.certified_accuracy,
            attacked=summary.attacked_accuracy,
            others=others,
            radius_label=radius_label(summary.norm),
            clean_accuracy=summary.clean_accuracy,
        ),
    )


def _scatter(run: Run, summary: Summary) -> Drawing | None:
    largest = summary.largest_eps
    if not summary.certified_accuracy or largest is None:
        return None
    images = covered(model_attacks(run), covered(sound_certificates(run), per_image(run)))
    # What was found within a certified ball is in no curve, but here it lies above the diagonal.
    beaten = {one["index"]: one["attacked"] for one in summary.violations[::-1]}
    inside = pd.Series(beaten, dtype=float).reindex(images.index)
    certified, attacked = images["certified"].to_numpy(), images["attacked"].to_numpy()
    attacked = np.fmin(attacked, inside.to_numpy())
    log, floor = _scale(certified, np.where(np.isfinite(attacked), attacked, largest))
    return Drawing(
        "radius_scatter",
        (4.8, 4.6),
        lambda ax: radius_scatter(
            ax,
            certified=certified,
            attacked=attacked,
            correct=images["correct"].to_numpy(dtype=bool),
            violated=images.index.isin(list(beaten)),
            largest_eps=largest,
            log=log,
            floor=floor,
            radius_label=radius_label(summary.norm),
        ),
    )


def _histogram(run: Run, summary: Summary) -> Drawing | None:
    images, names = per_image(run), list(summary.by_method)
    values = {}
    for method, rows in run.certificates.groupby("method"):
        entry = summary.by_method[str(method)]
        if entry["guarantee"] != "estimate":
            label = f"{short_name(str(method), names)} ({entry['guarantee']})"
            own = pd.DataFrame(rows)
            counted = counted_radii(own, covered(own, images)).to_numpy()
            values[label] = counted[np.isfinite(counted)]
    if not values:
        return None
    end = max([1e-12, *(float(v.max()) for v in values.values() if len(v))])
    return Drawing(
        "radius_histogram",
        (4.8, 4.6),
        lambda ax: radius_histogram(
            ax,
            radii=values,
            bins=np.linspace(0.0, end, _BINS + 1),
            radius_label=radius_label(summary.norm),
        ),
    )


def _embeddings(run: Run, summary: Summary) -> Drawing | None:
    del summary
    stored = load_arrays(run.folder, "embeddings", lenient=True)
    if not stored or len(stored["embeddings"]) < 2 or not np.isfinite(stored["embeddings"]).all():
        return None
    points, shares = principal_components(stored["embeddings"])
    names = [str(name).replace("$", r"\$") for name in run.manifest.get("class_names") or ()]
    return Drawing(
        "embedding_map",
        (6.4, 4.4),
        lambda ax: embedding_map(
            ax,
            points=points,
            labels=stored["labels"],
            class_names=names,
            shares=shares,
        ),
    )


def _triples(run: Run, summary: Summary) -> Drawing | None:
    stored = load_examples(run.folder)
    if not stored or not len(stored["index"]):
        return None
    order = np.argsort(stored["radius"], kind="stable")
    half = min(_MOST_IMAGES, (len(order) + 1) // 2)
    rows = np.unique(np.concatenate([np.arange(half), np.arange(len(order) - half, len(order))]))
    order = order[rows]
    clean, attacked = (_pictures(stored[key][order]) for key in ("clean", "attacked"))
    change = [after - before for before, after in zip(clean, attacked, strict=True)]
    gray = [0.5 + part / (2 * max(float(np.abs(part).max()), 1e-12)) for part in change]
    captions = [
        f"{'nearest' if place < len(order) / 2 else 'most robust'}\nimage {int(stored['index'][i])}"
        f"\n{norm_name(summary.norm)} {radius_text(float(stored['radius'][i]), summary.norm)}"
        for place, i in enumerate(order)
    ]
    return Drawing(
        "triples",
        (1.15 * len(order) + 0.7, 4.1),
        lambda ax: example_images(
            ax, clean=clean, attacked=attacked, difference=gray, captions=captions
        ),
    )


def _pictures(stored: np.ndarray) -> list[np.ndarray]:
    # Turn (M, C, H, W) into what imshow takes: gray, or the first three channels.
    images = np.clip(stored.astype(np.float64), 0.0, 1.0).transpose(0, 2, 3, 1)
    return [image[..., :3] if image.shape[2] >= 3 else image[..., 0] for image in images]


def _estimates(run: Run, summary: Summary) -> Drawing | None:
    images, names = per_image(run), list(summary.by_method)
    attacked = any(entry["n"] for entry in summary.estimates.values())
    if attacked:
        against = images
    elif summary.certified_accuracy:  # no attack: the best that stands beside estimates
        against = images.assign(attacked=images["certified"])
    else:
        return None
    values = {
        short_name(method, names): (pairs["attacked"].to_numpy(), pairs["estimate"].to_numpy())
        for method, pairs in estimate_pairs(run, against).items()
        if len(pairs)
    }
    if not values:
        return None
    reference, found = (np.concatenate(side) for side in zip(*values.values(), strict=True))
    log, floor = _scale(reference, found[np.isfinite(found)])
    return Drawing(
        "estimates",
        (4.8, 4.6),
        lambda ax: estimates(
            ax,
            reference_label="attacked" if attacked else "best certified",
            values=values,
            log=log,
            floor=floor,
            radius_label=radius_label(summary.norm),
        ),
    )


def _convergence(run: Run, summary: Summary) -> Drawing | None:
    value = "highest margin so far\n(positive: fooled)"
    return _curves(run, summary, "convergence", value, nearest=False)


def _nearing(run: Run, summary: Summary) -> Drawing | None:
    value = "smallest winning norm so far\nover the last one"
    return _curves(run, summary, "nearing", value, nearest=True)


def _curves(run: Run, summary: Summary, name: str, value: str, *, nearest: bool) -> Drawing | None:
    found = [one for one in convergences(run) if one.nearest == nearest]
    curves = [one for one in found if one.attacked >= FEWEST]
    if not curves:
        return None
    names, norm = list(summary.by_attack), norm_name(summary.norm)
    labels = [
        f"{short_name(one.attack, names)}, {norm} {radius_text(one.eps, summary.norm)}: "
        f"{one.attacked} images"
        for one in curves
    ]
    level = 1.0 if nearest else 0.0
    return Drawing(
        name,
        (8.0, 3.2),
        lambda ax: convergence(ax, curves=curves, labels=labels, value=value, level=level),
    )


def _budget(run: Run, summary: Summary) -> Drawing | None:
    table = budget_table(run)
    table = table[(table["stage"] == WHOLE) & (table["kind"] != "clean")]
    if table.empty:
        return None
    names = [*summary.by_method, *summary.by_attack]
    labels = [short_name(method, names) for method in table["method"]]
    shares = {
        unit: (table[unit] / max(float(table[unit].sum()), 1e-12)).to_numpy()
        for unit in RADIUS_UNITS
    }
    texts = [
        ", ".join([*(f"{int(n):,} {unit}" for n, unit in counts if n > 0), seconds_text(seconds)])
        for *numbers, seconds in table[list(RADIUS_UNITS)].itertuples(index=False)
        for counts in [list(zip(numbers, RADIUS_UNITS, strict=False))]
    ]
    return Drawing(
        "budget",
        (8.0, 0.8 + 0.42 * len(labels)),
        lambda ax: budget(ax, labels=labels, shares=shares, texts=texts),
    )


def _scale(small: np.ndarray, large: np.ndarray) -> tuple[bool, float]:
    # Choose logarithmic axes where the two sides are of different sizes, and their floor.
    small, large = small[np.isfinite(small) & (small > 0)], large[large > 0]
    if not len(small) or not len(large):
        return False, 0.0
    log = float(np.median(small)) < LOG_RATIO * float(np.median(large))
    return log, float(10 ** np.floor(np.log10(min(np.quantile(small, 0.01), large.min()))))
