"""Refuse options of smoothing that are out of range."""

import numpy as np

from robustcl.certify.pairs import affine_head
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError, UnsupportedError

FORMS, BOUNDS = ("vote", "mean", "clip"), ("betting", "bernstein")


def check_smoothing(
    classifier: Classifier,
    *,
    sigma: float = 0.25,
    n: int = 1000,
    n_select: int = 100,
    alpha: float = 0.001,
    form: str = "vote",
    clip: float = 0.25,
    bound: str = "betting",
    target: float = 0.0,
) -> None:
    """Refuse options that are out of range, and classifiers that the form cannot treat.

    Args:
        classifier: The classifier.
        sigma: See `smoothing`, as for the others.
        n: Samples that bound the margins.
        n_select: Samples that choose the class.
        alpha: Probability of a wrong claim.
        form: 'vote', 'mean' or 'clip'.
        clip: t of the form 'clip'; 0 to choose it per image.
        bound: 'betting' or 'bernstein'.
        target: Radius that is to be decided; 0 for none.

    Raises:
        InputError: When an option is out of range.
        UnsupportedError: When the form does not apply.
    """
    if form not in FORMS:
        raise InputError(f"unknown form {form!r} of smoothing; use vote, mean or clip")
    if bound not in BOUNDS:
        raise InputError(f"unknown bound {bound!r} of smoothing; use betting or bernstein")
    if bound == "bernstein" and (form == "vote" or target):
        raise InputError("bound=bernstein is for form=mean or clip without target; leave it out")
    if not 0 < sigma < np.inf:
        raise InputError(f"sigma {sigma} is not positive and finite; try 0.25")
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha {alpha} is not between 0 and 0.5; try 0.001")
    if n < 2 or n_select < 1:
        raise InputError(f"n {n} or n_select {n_select} is too small; try n=1000,n_select=100")
    if not 0 <= clip < np.inf or not 0 <= target < np.inf:
        raise InputError(f"clip {clip} or target {target} is negative or infinite; 0 is automatic")
    if form == "vote":
        return
    affine_head(classifier, method=f"smoothing:form={form}")
    if form == "mean" and not classifier.normalizes:
        raise UnsupportedError(
            "smoothing:form=mean needs embeddings on the unit sphere, since its theorem needs "
            "bounded scores; use smoothing:form=vote or form=clip"
        )
