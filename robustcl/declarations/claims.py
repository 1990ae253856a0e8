"""Keep the table of claims: one hand-written row per certificate, for which a person signs."""

from dataclasses import dataclass

from robustcl.core.choices import CertifiedNorm, Guarantee

MULTI_VIEW = "multi-view model"


@dataclass(frozen=True)
class ClaimRow:
    """State what a certificate claims.

    Args:
        name: Its name on the command line.
        norms: Norms it gives radii for.
        guarantee: 'deterministic', 'probabilistic' or 'estimate'.
        subject: The classifier the claim is about.
        claim: One line.
        reference: The paper.
        prepare: What a model is prepared by once, a key of `certify.methods.PREPARATIONS`; '' for
            nothing.
        home: MODULE:FUNCTION in `certify`; by default the function of its name's file.
    """

    name: str
    norms: tuple[CertifiedNorm, ...]
    guarantee: Guarantee
    subject: str
    claim: str
    reference: str
    prepare: str = ""
    home: str = ""


CLAIMS = (
    ClaimRow(
        "product",
        ("l2", "linf"),
        "deterministic",
        "model",
        "margin over the product of guaranteed layer norms, last layer pair by pair",
        "Tsuzuku et al. 2018",
        prepare="network",
    ),
    ClaimRow(
        "geodesic",
        ("l2", "linf"),
        "deterministic",
        "model",
        "distance of h to the edge of its class's cone over the product of norms",
        "Hein and Andriushchenko 2017",
        prepare="sphere",
    ),
    ClaimRow(
        "local",
        ("l2", "linf"),
        "deterministic",
        "model",
        "margin over gradient bounds that hold on the ball, integrated up a staircase",
        "Hein and Andriushchenko 2017; Weng et al. 2018",
        prepare="network",
    ),
    ClaimRow(
        "crown",
        ("l2", "linf"),
        "deterministic",
        "model",
        "margins bounded by lines over the ball, offsets coupled in L2",
        "Zhang et al. 2018; Chiu et al. 2025",
        prepare="network",
    ),
    ClaimRow(
        "sound",
        ("l2", "linf"),
        "deterministic",
        "model",
        "the best of product, local and crown, class by class",
        "see product, local, crown",
        prepare="network",
        home="_certified_radius:certified_radius",
    ),
    ClaimRow(
        "multi_view",
        ("l2", "linf"),
        "deterministic",
        MULTI_VIEW,
        "mean margin over the mean of the views' norms times the encoder's, or a majority",
        "own; Tsuzuku et al. 2018 for one view",
        prepare="views",
    ),
    ClaimRow(
        "smoothing",
        ("l2", "linf"),
        "probabilistic",
        "smoothed model",
        "class by votes (or mean embedding, clipped pairs) of noisy copies, wrong with "
        "probability <= alpha",
        "Cohen et al. 2019; Salman et al. 2019; Waudby-Smith and Ramdas 2023",
        prepare="smoothing",
    ),
    ClaimRow(
        "first_order",
        ("l2", "linf"),
        "estimate",
        "model",
        "pairwise margins over their gradients at the image; proves nothing",
        "Hein and Andriushchenko 2017",
    ),
    ClaimRow(
        "jacobian_norm",
        ("l2", "linf"),
        "estimate",
        "model",
        "margin over the Jacobian's norm at the image; proves nothing",
        "Tsuzuku et al. 2018",
        prepare="affine head",
    ),
    ClaimRow(
        "clever",
        ("l2", "linf"),
        "estimate",
        "model",
        "margins over extreme values of sampled gradients; proves nothing",
        "Weng et al. 2018",
    ),
)
