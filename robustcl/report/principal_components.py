"""Project embeddings onto the plane in which they vary most."""

import numpy as np


def principal_components(embeddings: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Project onto the first two principal components, with a sign that does not flip.

    Args:
        embeddings: (N, d) finite numbers.

    Returns:
        (N, 2) coordinates, 0 where there is no such direction, and the shares of the variance.

    Reference:
        Pearson, On lines and planes of closest fit to systems of points in space, 1901.
    """
    centered = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    _, sizes, directions = np.linalg.svd(centered, full_matrices=False)
    directions = directions[:2]
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    points = np.zeros((len(embeddings), 2))
    points[:, : len(directions)] = centered @ (directions * signs[:, None]).T
    shares = np.zeros(2)
    total = float((sizes**2).sum())
    if total > 0:
        shares[: len(directions)] = sizes[:2] ** 2 / total
    return points, (float(shares[0]), float(shares[1]))
