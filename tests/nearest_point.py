"""Find the nearest point of a polytope, with a proved lower bound of its distance."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, nnls

from robustcl.core.choices import Norm

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def nearest_point(
    half_spaces: Array, *, norm: Norm, low: Array, high: Array, scale: float
) -> tuple[Array, float, Mask]:
    """Return the least v with g.v >= h for all half-spaces, and low <= v <= high.

    Args:
        half_spaces: (m, n + 1), rows (g, h).
        norm: 'l2', 'linf' or 'l1', in which v is least.
        low: (n,) bounds, all finite or all -inf.
        high: (n,) bounds, likewise.
        scale: The order of magnitude of the answer, as which 1 is taken in the solvers.

    Returns:
        v (n,), a lower bound of the least norm (infinite where the polytope is empty), and the
        (m,) half-spaces that hold v back.
    """
    g, h = half_spaces[:, :-1], half_spaces[:, -1] / scale
    solve = {"l2": _nearest_l2, "linf": _nearest_linf, "l1": _nearest_l1}[norm]
    move, bound, used = solve(g, h, low / scale, high / scale)
    return move * scale, bound * scale, used


def _nearest_l2(g: Array, h: Array, low: Array, high: Array) -> tuple[Array, float, Mask]:
    # Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23 (LDP). Any u >= 0 proves
    # |v| >= u.h / |u.g|, so the bound does not rest on how well u was found.
    count = len(g)
    if np.isfinite(low).all():
        eye = np.eye(g.shape[1])
        g, h = np.vstack([g, eye, -eye]), np.concatenate([h, low, -high])
    system = np.vstack([g.T, h])
    target = np.zeros(len(system))
    target[-1] = 1.0
    weights, _ = nnls(system, target, maxiter=30 * len(system))
    steep, lift = float(np.linalg.norm(weights @ g)), float(weights @ h)
    rest = system @ weights - target
    if lift <= 0.0:
        return np.zeros(g.shape[1]), 0.0, weights[:count] > 0
    bound = lift / steep if steep > 0.0 else np.inf
    return -rest[:-1] / min(rest[-1], -1e-300), bound, weights[:count] > 0


def _nearest_linf(g: Array, h: Array, low: Array, high: Array) -> tuple[Array, float, Mask]:
    # Variables v and t, with v between -t and t; HiGHS keeps constraints up to 1e-7.
    count = g.shape[1]
    eye, ones = np.eye(count), np.ones((count, 1))
    matrix = np.block([[-g, np.zeros((len(g), 1))], [eye, -ones], [-eye, -ones]])
    limits = np.concatenate([-h, np.zeros(2 * count)])
    bounds = [*zip(low, high, strict=True), (0.0, None)]
    found = linprog([*np.zeros(count), 1.0], matrix, limits, bounds=bounds, method="highs")
    if found.status == 2:
        return np.zeros(count), np.inf, np.ones(len(g), dtype=bool)
    return found.x[:-1], float(found.fun), found.ineqlin.marginals[: len(g)] < 0


def _nearest_l1(g: Array, h: Array, low: Array, high: Array) -> tuple[Array, float, Mask]:
    # v = p - q with p and q from 0 upwards; their sum is least where one of each pair is 0.
    count = g.shape[1]
    ends = np.concatenate([high, -low])
    bounds = [(0.0, end) for end in ends]
    found = linprog(np.ones(2 * count), np.block([-g, g]), -h, bounds=bounds, method="highs")
    if found.status == 2:
        return np.zeros(count), np.inf, np.ones(len(g), dtype=bool)
    move = found.x[:count] - found.x[count:]
    return move, float(found.fun), found.ineqlin.marginals < 0
