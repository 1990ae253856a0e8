"""Join the records of a run to one row per image."""

from __future__ import annotations

from typing import TYPE_CHECKING

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false
import numpy as np

from robustcl.core.errors import RunError
from robustcl.core.lazy import lazily
from robustcl.records.kinds import CERTIFIED_BALL
from robustcl.records.reading import Run

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazily("pandas")

RIM = 1e-6  # relative excess over a budget, as `attacks.run_attack` allows


def per_image(run: Run) -> pd.DataFrame:
    """Join the clean prediction, the best certificate and the worst attack of every image.

    Args:
        run: As `load_run` reads it.

    Returns:
        One row per image, by index: label (the predicted class where the data has no labels),
        predicted (-1: abstained), correct, certified (0 where nothing is proved), certified_by (''
        for none), attacked (radius in float64, infinite where nothing was found), attacked_by and
        fooled (the smaller of it and the norm at which the model itself was fooled). Radii are
        about leaving the predicted class, be it right or wrong.

    Raises:
        RunError: When the run has no clean predictions, or records of two norms.
    """
    if run.clean.empty:
        raise RunError(f"{str(run.folder)!r} holds no clean predictions; resume the run")
    for table in (run.certificates, run.attacks):
        strangers = sorted(set(table["norm"].dropna().unique()) - {run_norm(run)})
        if strangers:
            raise RunError(
                f"{str(run.folder)!r} is a run of norm {run_norm(run)!r} with records of norm "
                f"{strangers[0]!r}; write every norm into a folder of its own"
            )
    images = run.clean.set_index("index")[["label", "predicted"]].astype(int).sort_index()
    if not is_labeled(run):
        images["label"] = images["predicted"]  # without labels, the class that is to be kept
    images["correct"] = (images["label"] == images["predicted"]) & (images["predicted"] >= 0)
    sound = _same_class(sound_certificates(run), images)
    attacks = _same_class(model_attacks(run), images)
    best = sound.sort_values("radius", kind="stable").drop_duplicates("index", keep="last")
    best = best.set_index("index")
    worst = attacks.sort_values("radius", kind="stable").drop_duplicates("index", keep="first")
    worst = worst[np.isfinite(worst["radius"])].set_index("index")
    images["certified"] = best["radius"].reindex(images.index).fillna(0.0)
    images["certified_by"] = _names(best, images)
    images["attacked"] = worst["radius"].reindex(images.index).fillna(np.inf)
    images["attacked_by"] = _names(worst, images)
    least = fooled(attacks).groupby(attacks["index"]).min()
    images["fooled"] = least.reindex(images.index).fillna(np.inf)
    return images


def covered(rows: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Keep the images on which every method of a table has ended.

    Args:
        rows: Records of one or several methods.
        images: From `per_image`.

    Returns:
        The rows of `images` that have a record of each method; all of them where there is none.
    """
    if rows.empty:
        return images
    counts = rows.groupby("index")["method"].nunique()
    whole = counts[counts == rows["method"].nunique()].index
    return images[images.index.isin(whole)]


def sound_certificates(run: Run) -> pd.DataFrame:
    """Select the deterministic certificates for the model that is measured.

    Args:
        run: As `load_run` reads it.

    Returns:
        Their records, with a number as radius.
    """
    table = run.certificates
    rows = table[(table["guarantee"] == "deterministic") & (table["subject"] == run_subject(run))]
    return rows.assign(radius=radii(rows))


def model_attacks(run: Run) -> pd.DataFrame:
    """Select the attacks on the model that is measured.

    Args:
        run: As `load_run` reads it.

    Returns:
        Their records, without those of attacks within certified balls.
    """
    table = run.attacks
    return table[(table["subject"] == run_subject(run)) & (table["method"] != CERTIFIED_BALL)]


def ball_attacks(run: Run) -> pd.DataFrame:
    """Select the attacks within certified balls.

    Args:
        run: As `load_run` reads it.

    Returns:
        Their records, one per image that has a certificate.
    """
    rows = run.attacks[run.attacks["method"] == CERTIFIED_BALL]
    return rows[rows["ball"] > 0]


def fooled(rows: pd.DataFrame) -> pd.Series:
    """Say at which norm each attack has won, for the model itself or for its float64 copy.

    Args:
        rows: Attack records.

    Returns:
        Norms by which robust accuracy counts; infinite where nothing was found.
    """
    return rows[["radius", "deployed"]].astype(float).min(axis=1)


def radii(rows: pd.DataFrame) -> pd.Series:
    """Read certified radii; a null is infinite only where no class can ever overtake.

    Args:
        rows: Certificate records.

    Returns:
        Radii >= 0; 0 where the certificate abstained.
    """
    values = pd.to_numeric(rows["radius"]).astype(float)
    endless = values.isna() & (rows["rival"] == -1) & (rows["predicted"] >= 0)
    values = values.mask(endless, np.inf).fillna(0.0).clip(lower=0.0)
    return values.where(rows["predicted"] >= 0, 0.0)


def counted_radii(rows: pd.DataFrame, images: pd.DataFrame) -> pd.Series:
    """Give one method's radius for every image, 0 where it is wrong, abstained or absent.

    Args:
        rows: The certificate records of one method.
        images: From `per_image`.

    Returns:
        One radius per row of `images`.
    """
    right = images["correct"].reindex(rows["index"], fill_value=False).to_numpy(dtype=bool)
    label = images["label"].reindex(rows["index"], fill_value=-1).to_numpy()
    right = right & (rows["predicted"].to_numpy() == label)
    found = pd.Series(radii(rows).where(right, 0.0).to_numpy(), index=rows["index"])
    return found.reindex(images.index).fillna(0.0)


def withstands(norms: pd.Series, budget: float) -> pd.Series:
    """Tell which images no attack has beaten within a budget.

    Attacks may exceed a budget by the rounding of their points, 1e-6 of it; what they find there
    counts as within.

    Args:
        norms: Of the smallest perturbations found (`fooled`), infinite where there is none.
        budget: The budget.

    Returns:
        A truth value per image.
    """
    return norms > budget * (1.0 + RIM)


def is_labeled(run: Run) -> bool:
    """Tell whether the data of a run has labels.

    Args:
        run: As `load_run` reads it.

    Returns:
        True also for runs of versions that did not record it.
    """
    return bool(run.manifest.get("labeled", True))


def run_norm(run: Run) -> str:
    """Name the norm of a run.

    Args:
        run: As `load_run` reads it.

    Returns:
        'l2', 'linf' or 'l1'.
    """
    return str(run.manifest.get("config", {}).get("norm", "l2"))


def run_subject(run: Run) -> str:
    """Name the classifier that a run measures and attacks.

    Args:
        run: As `load_run` reads it.

    Returns:
        'model', or 'multi-view model' where it has several views.
    """
    return "multi-view model" if run.manifest.get("config", {}).get("views") else "model"


def _names(rows: pd.DataFrame, images: pd.DataFrame) -> np.ndarray:
    # By number: texts that pandas keeps in Arrow are turned into objects one by one.
    codes, names = pd.factorize(rows["method"])
    found = pd.Series(codes, index=rows.index).reindex(images.index, fill_value=-1)
    return np.array([*names, ""], dtype=object)[found.to_numpy()]


def _same_class(rows: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    known = images["predicted"].reindex(rows["index"]).to_numpy()
    return rows[(rows["predicted"].to_numpy() == known) & (known >= 0)]
