"""Pair every row of the table of claims with the certificate that computes it."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from robustcl.certify._crown import Effort
from robustcl.certify._geodesic import check_sphere
from robustcl.certify._local import check_stairs
from robustcl.certify._multi_view import PreparedViews, compare_views, prepared_views
from robustcl.certify.claim import Claim
from robustcl.certify.image_by_image import compare_model
from robustcl.certify.norms import check_certified_norm
from robustcl.certify.pairs import affine_head
from robustcl.certify.preparation import PreparedModel, prepared_model
from robustcl.certify.smoothing_noise import check_smoothing
from robustcl.core.choices import CERTIFIED_NORMS, CertifiedNorm, Guarantee
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.lazy import declared
from robustcl.core.specification import Specification, check_options, choose, parse_specification
from robustcl.declarations.claims import CLAIMS

# What a method computes once per model: None where it needs nothing of the kind.
Prepared = PreparedModel | PreparedViews | None
Prepare = Callable[[Classifier, CertifiedNorm, dict[str, Any]], Prepared]


@dataclass(frozen=True)
class Method:
    """Pair a row of the table of claims with what computes it.

    Args:
        name: Of the row, like all that follow up to the reference.
        norms: Norms it gives radii for.
        guarantee: 'deterministic', 'probabilistic' or 'estimate'.
        subject: The classifier the claim is about.
        claim: One line.
        reference: The paper.
        home: Where the function is, if not in its name's file.
        function: (classifier, images, *, norm, ...) to a `Claim`.
        prepare: (classifier, norm, options) to what `function` takes as `prepared`, or None; called
            once per model, it refuses what the method cannot treat.
    """

    name: str
    norms: tuple[CertifiedNorm, ...]
    guarantee: Guarantee
    subject: str
    claim: str
    reference: str
    home: str
    function: Callable[..., Claim]
    prepare: Prepare | None

    def treats(self, norm: str) -> bool:
        """Say whether there are radii in a norm.

        Args:
            norm: 'l2', 'linf' or 'l1'.

        Returns:
            Whether the method gives them, or, for L1, proves them in L2.
        """
        proves_l1 = "l2" in self.norms and self.guarantee != "estimate"
        return norm in self.norms or (norm == "l1" and proves_l1)


def _check_effort(options: dict[str, Any]) -> None:
    check_stairs(options.get("stairs", 1))
    names = ("steps", "slope_steps", "splits", "units")
    Effort(**{key: options[key] for key in names if options.get(key) is not None})


def _prepare_network(
    classifier: Classifier, norm: CertifiedNorm, options: dict[str, Any]
) -> Prepared:
    _check_effort(options)
    return prepared_model(classifier, norm=norm, method="a certificate of the model itself")


def _prepare_views(
    classifier: Classifier, norm: CertifiedNorm, options: dict[str, Any]
) -> Prepared:
    del options
    return prepared_views(classifier, norm=norm)


def _prepare_on_sphere(
    classifier: Classifier, norm: CertifiedNorm, options: dict[str, Any]
) -> Prepared:
    check_sphere(classifier)
    return _prepare_network(classifier, norm, options)


def _check_affine_head(
    classifier: Classifier, norm: CertifiedNorm, options: dict[str, Any]
) -> None:
    del norm, options
    affine_head(classifier, method="jacobian_norm")


def _check_smoothed(classifier: Classifier, norm: CertifiedNorm, options: dict[str, Any]) -> None:
    del norm
    names = ("sigma", "n", "n_select", "alpha", "form", "clip", "bound", "target")
    check_smoothing(classifier, **{key: options[key] for key in names if key in options})


PREPARATIONS: dict[str, Prepare | None] = {
    "": None,
    "network": _prepare_network,
    "sphere": _prepare_on_sphere,
    "views": _prepare_views,
    "smoothing": _check_smoothed,
    "affine head": _check_affine_head,
}
METHODS: dict[str, Method] = {
    row.name: Method(
        **{**vars(row), "prepare": PREPARATIONS[row.prepare]},
        function=declared(f"certify.{row.home or f'_{row.name}:{row.name}'}"),
    )
    for row in CLAIMS
}
_SUPPLIED = ("norm", "methods", "seeds", "prepared", "batch_size")
# Options whose default is another one than in version 0.1.
CHANGED: dict[str, tuple[str, ...]] = {"smoothing": ("form",)}


def parse_method(text: str) -> Specification:
    """Read a method such as 'smoothing:sigma=.25,n=10000,alpha=.001'.

    A name that is unknown, or an option the method does not take, is refused.

    Args:
        text: NAME or NAME:key=value,key=value.

    Returns:
        The specification, with options that the method takes.
    """
    specification = parse_specification(text)
    choose(specification.name, METHODS, what="method")
    check_options(specification, METHODS[specification.name].function, exclude=_SUPPLIED)
    return specification


def changed_defaults(texts: Iterable[str]) -> list[str]:
    """Name the defaults that methods rely on and that were others in version 0.1.

    Records name a method by the text that was typed, so a run has to state what the text left out:
    without it, a run of an older version would be gone on with by another certificate.

    Args:
        texts: Methods as they were typed.

    Returns:
        Such as ['smoothing:form=vote']; empty where the texts leave none of them out.
    """
    found: set[str] = set()
    for text in texts:
        specification = parse_method(text)
        parameters = inspect.signature(METHODS[specification.name].function).parameters
        found |= {
            f"{specification.name}:{key}={parameters[key].default}"
            for key in CHANGED.get(specification.name, ())
            if key not in specification.options
        }
    return sorted(found)


def prepare(specification: Specification, classifier: Classifier, *, norm: str) -> Prepared:
    """Compute once per model what a method needs for every batch.

    Args:
        specification: The method.
        classifier: The model.
        norm: 'l2', 'linf' or 'l1' (see `certificate`).

    Returns:
        What `certificate` takes as `prepared`; None where there is nothing to prepare. A network
        that the method cannot treat is refused here.
    """
    method = METHODS[choose(specification.name, METHODS, what="method")]
    options: dict[str, Any] = dict(specification.options)
    computed = _computed(method, norm)
    return None if method.prepare is None else method.prepare(classifier, computed, options)


def prepare_all(texts: Iterable[str], classifier: Classifier, *, norm: str) -> dict[str, Prepared]:
    """Prepare a model for several methods, and write its network as steps only once.

    Args:
        texts: The methods, as in 'sound:splits=4'.
        classifier: The model.
        norm: 'l2', 'linf' or 'l1'.

    Returns:
        What `prepare` returns, by method.
    """
    found: dict[str, Prepared] = {}
    shared: dict[str, PreparedModel] = {}
    for text in texts:
        specification = parse_method(text)
        method, options = METHODS[specification.name], dict(specification.options)
        computed = _computed(method, norm)
        if method.prepare in (_prepare_network, _prepare_on_sphere) and computed in shared:
            if method.prepare is _prepare_on_sphere:
                check_sphere(classifier)
            _check_effort(options)
            found[text] = shared[computed]
            continue
        found[text] = prepare(specification, classifier, norm=norm)
        if isinstance(found[text], PreparedModel):
            shared[computed] = found[text]
    return found


def certificate(
    specification: Specification,
    classifier: Classifier,
    images: Tensor,
    *,
    norm: str = "l2",
    seeds: Sequence[int] | None = None,
    prepared: Prepared = None,
    batch_size: int | None = None,
) -> Claim:
    """Apply one method of the table.

    A radius in L1 is the one in L2: as |v|_2 <= |v|_1, the ball of L1 lies within that of L2. This
    is sound but not tight, and no estimate.

    Args:
        specification: The method and its options.
        classifier: The model; left as it was.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2', 'linf' or 'l1'.
        seeds: One seed per image, for methods that sample.
        prepared: From `prepare`, or None.
        batch_size: Noisy images per model call, for methods that sample; None for the method's own.

    Returns:
        The method's claim.
    """
    method = METHODS[choose(specification.name, METHODS, what="method")]
    options: dict[str, Any] = check_options(specification, method.function, exclude=_SUPPLIED)
    if "seeds" in inspect.signature(method.function).parameters:
        options["seeds"] = seeds
    if prepared is not None:
        options["prepared"] = prepared
    if batch_size is not None and "batch_size" in inspect.signature(method.function).parameters:
        options["batch_size"] = batch_size
    computed = _computed(method, norm)
    claim = method.function(classifier, images, norm=computed, **options)
    return claim if norm == computed else replace(claim, norm=norm)


def compare(prepared: Prepared, classifier: Classifier, points: Tensor) -> None:
    """Refuse a model whose float64 scores at some points are not those that were certified.

    Args:
        prepared: From `prepare`; nothing is compared for methods that trace no network.
        classifier: The model.
        points: (N, C, H, W), such as those that an attack returned; they may lie outside [0, 1].

    Raises:
        UnsupportedError: With the point, the class and the difference.
    """
    if isinstance(prepared, PreparedViews):
        compare_views(prepared, classifier, points)
    elif isinstance(prepared, PreparedModel):
        compare_model(prepared, classifier, points)


def _computed(method: Method, norm: str) -> CertifiedNorm:
    if not method.treats(norm):
        known = [name for name in (*CERTIFIED_NORMS, "l1") if method.treats(name)]
        raise InputError(f"{method.name} gives no {norm} radius, only {', '.join(known)}")
    return "l2" if norm == "l1" else check_certified_norm(norm)
