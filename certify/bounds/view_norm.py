"""Bound the norm of a linear view from above."""

from torch import Tensor

from robustcl.certify.norms import check_norm
from robustcl.certify.ops.spectral_norm import spectral_norm
from robustcl.certify.rounding import round_up
from robustcl.core.choices import CertifiedNorm
from robustcl.models.inference_views import LinearView


def view_norm(view: LinearView, *, norm: CertifiedNorm) -> float:
    """Bound |V v| over |v| = 1 for the view's linear part v -> R v C^T.

    The norm of a map along both axes is the product of the matrices' norms: their largest singular
    values in L2, their largest sums of absolute values in a row in Linf. It is 1 for flips, shifts
    with zero fill and noise; in L2 a bilinear crop that stretches has more.

    Args:
        view: The view, with the weights as stored.
        norm: 'l2' or 'linf'.

    Returns:
        The bound, rounded up.
    """
    check_norm(norm)
    size = 1.0
    for matrix in (view.rows, view.columns):
        if matrix is not None:
            size *= _matrix_norm(matrix.detach().double(), norm)
    return round_up(size)


def _matrix_norm(matrix: Tensor, norm: CertifiedNorm) -> float:
    if norm == "l2":
        return spectral_norm(matrix)
    return round_up(float(matrix.abs().sum(dim=1).max()))
