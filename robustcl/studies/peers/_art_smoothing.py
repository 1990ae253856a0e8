"""Set randomized smoothing by votes beside that of the Adversarial Robustness Toolbox (ART)."""

from typing import Any

import numpy as np
from torch import nn

from robustcl.certify import smoothing
from robustcl.core.seeds import example_seed
from robustcl.studies.peers._art_clever import ART_CURE, ART_VARIABLE
from robustcl.studies.peers.comparison import (
    Comparison,
    ComparisonInputs,
    compare_programs,
    import_peer,
    named,
)

SIGMA, N, N_SELECT, ALPHA = 0.25, 1000, 100, 0.001
_IMAGES = 16
_GAP = 0.1  # between the mean radii of images that both certify, relative
_Outcome = tuple[np.ndarray, np.ndarray]


def art_smoothing(inputs: ComparisonInputs) -> list[Comparison]:
    """Compare predictions and radii, then time.

    Both take votes, the same numbers of samples and the Clopper-Pearson bound; the noise differs.

    Args:
        inputs: Model and images.

    Returns:
        One comparison.
    """
    import_peer(
        "art.estimators.certification.randomized_smoothing", cure=ART_CURE, variable=ART_VARIABLE
    )
    import_peer(
        "statsmodels.stats.proportion",
        cure="ART needs it for smoothing: pip install statsmodels, or into a folder of "
        f"{ART_VARIABLE}",
        variable=ART_VARIABLE,
    )
    from art.estimators.certification.randomized_smoothing import (  # pyright: ignore
        PyTorchRandomizedSmoothing,
    )

    images = inputs.test.batch(range(min(_IMAGES, len(inputs.test)))).images.to(inputs.device)
    wrapped: Any = PyTorchRandomizedSmoothing(
        model=inputs.model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(images.shape[1:]),
        nb_classes=inputs.model.num_classes,
        device_type="gpu" if images.is_cuda else "cpu",
        sample_size=N_SELECT,
        scale=SIGMA,
        alpha=ALPHA,
    )
    pixels = images.cpu().numpy()

    def ours() -> _Outcome:
        claim = smoothing(
            inputs.model,
            images,
            sigma=SIGMA,
            n=N,
            n_select=N_SELECT,
            alpha=ALPHA,
            form="vote",
            seeds=[example_seed(inputs.seed, row, "peer") for row in range(len(images))],
            batch_size=inputs.batch_size,
        )
        return claim.predicted.cpu().numpy(), claim.radius.cpu().numpy()

    def theirs() -> _Outcome:
        np.random.seed(inputs.seed)  # noqa: NPY002 ART uses the global generator
        return wrapped.certify(pixels, n=N, batch_size=inputs.batch_size)

    return [
        compare_programs(
            inputs,
            f"smoothing, sigma {SIGMA}, {N_SELECT} + {N} samples, vote, {len(images)} images",
            named("adversarial-robustness-toolbox"),
            ours=ours,
            theirs=theirs,
            agreement=_agreement,
        )
    ]


def _agreement(ours: _Outcome, theirs: _Outcome) -> tuple[bool, str]:
    both = (ours[0] >= 0) & (theirs[0] >= 0)
    clash = int((ours[0][both] != theirs[0][both]).sum())
    means = [float(side[1][both].mean()) if both.any() else 0.0 for side in (ours, theirs)]
    gap = means[0] / means[1] - 1.0 if means[1] else 0.0
    lost = int(((ours[0] < 0) & (theirs[0] >= 0)).sum())
    text = (
        f"mean radius {means[0]:.4g} and {means[1]:.4g} ({gap:+.1%}) on {int(both.sum())} images; "
        f"{clash} predictions differ; only they certify {lost}"
    )
    return clash == 0 and abs(gap) <= _GAP, text
