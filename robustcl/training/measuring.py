"""Measure an encoder during training."""

import torch
from torch import Tensor

from robustcl.core.abstention import directed, on_sphere, predict
from robustcl.core.modules import eval_mode
from robustcl.data.views.simclr import simclr_views
from robustcl.models.heads import knn
from robustcl.training.contradictions import contradiction
from robustcl.training.losses._false_negative_filter import Suspects, suspects
from robustcl.training.losses.similarities import unit
from robustcl.training.losses.sums import LossBatch, pair_weights
from robustcl.training.start_run import TrainingRun


def spread(embeddings: Tensor) -> Tensor:
    """Compute sqrt of the summed variance of z = u / |u|.

    Args:
        embeddings: (B, d) raw embeddings.

    Returns:
        A scalar: 0 when all are one point, 1 when their mean is 0.
    """
    return unit(embeddings).var(dim=0, correction=0).sum().sqrt()


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Compute the mean squared distance of z between two views.

    Args:
        first: (B, d) raw embeddings of one view of each image.
        second: (B, d) raw embeddings of the other view.

    Returns:
        A scalar in [0, 4]; 0 when views coincide.

    Reference:
        Wang and Isola, Understanding Contrastive Representation Learning through Alignment and
        Uniformity on the Hypersphere, ICML 2020, section 4.1.1.
    """
    return (unit(first) - unit(second)).square().sum(dim=1).mean()


def uniformity(embeddings: Tensor) -> Tensor:
    """Compute log mean exp(-2 |z_i - z_j|^2) over pairs i < j.

    Args:
        embeddings: (B, d) raw embeddings, B >= 2.

    Returns:
        A scalar <= 0; 0 when all are one point.

    Reference:
        Wang and Isola, ICML 2020, section 4.1.2, with t = 2.
    """
    return torch.pdist(unit(embeddings)).square().mul(-2.0).exp().mean().log()


def effective_rank(embeddings: Tensor) -> Tensor:
    """Compute exp of the entropy of the normalized singular values of z.

    Args:
        embeddings: (B, d) raw embeddings.

    Returns:
        A scalar between 1 and min(B, d): how many directions are in use.

    Reference:
        Roy and Vetterli, The Effective Rank, EUSIPCO 2007, definition 1.
    """
    values = torch.linalg.svdvals(unit(embeddings).double())
    shares = values / values.sum()
    return torch.special.entr(shares).sum().exp()


_BATCH = 256  # images in the batch that monitors look at
BANK, QUERIES, NEIGHBORS = 4000, 1000, 20  # of the kNN that runs along
_CHUNK = 256


@torch.no_grad()
def measure_training(run: TrainingRun, *, epoch: int, neighbors: bool = True) -> dict[str, float]:
    """Measure on training images: collapse, contradiction, filter and kNN accuracy.

    Alignment, contradiction and filter are those of what the losses see, behind the projector
    where there is one; the rest is about the embedding.

    All randomness comes from a generator of its own, so training is the same with and without.
    Labels that the losses do not see are used here to measure only.

    Args:
        run: The run.
        epoch: Epochs that are over.
        neighbors: Whether to classify training images by the nearest others.

    Returns:
        Numbers by name.
    """
    device = run.images.device
    generator = torch.Generator(device).manual_seed(run.recipe.seed + 1)
    order = torch.randperm(len(run.images), generator=generator, device=device)
    rows = order[:_BATCH]
    with eval_mode(run.model):
        pair = simclr_views(run.images[rows], options=run.views, generator=generator)
        first, second = (run.model(view).float() for view in pair)
        plain = _embed(run, rows)
        found = {
            "spread": float(spread(plain)),
            "alignment": float(alignment(first, second)),
            "uniformity": float(uniformity(plain)),
            "effective_rank": float(effective_rank(plain)),
        }
        classes = len(run.truth[rows].unique())
        if classes > 1:
            found |= _pairs(run, rows, (first, second), torch.cat(pair), epoch)
        if neighbors and classes > 1:
            found["knn_accuracy"] = _knn_accuracy(run, order)
    return found


def filter_quality(found: Suspects, labels: Tensor) -> tuple[float, float]:
    """Compare suspected false negatives with true labels.

    Args:
        found: From `suspects`.
        labels: (B,) true labels.

    Returns:
        Precision (NaN without suspects) and recall of the suspects, over ordered pairs of views.
    """
    count = len(labels)
    number = torch.arange(count, device=labels.device).repeat(2)
    other = number[:, None] != number[None, :]
    both = labels.repeat(2)
    wanted = (both[:, None] == both[None, :]) & other
    chosen = (found.dropped | found.attracted) & other
    right = float((chosen & wanted).sum())
    chosen_count, wanted_count = float(chosen.sum()), float(wanted.sum())
    precision = right / chosen_count if chosen_count else float("nan")
    return precision, right / wanted_count if wanted_count else float("nan")


def _embed(run: TrainingRun, rows: Tensor) -> Tensor:
    parts = []
    for chunk in rows.split(_CHUNK):
        images = run.images[chunk]
        images = images.float().div_(255.0) if images.dtype == torch.uint8 else images
        parts.append(run.encoder(images).float())
    return torch.cat(parts)


def _pairs(
    run: TrainingRun, rows: Tensor, pair: tuple[Tensor, Tensor], images: Tensor, epoch: int
) -> dict[str, float]:
    truth = run.truth[rows]
    batch = LossBatch(*pair, run.labels[rows], None, run.thresholds[rows], run.prototypes)
    report = contradiction(
        pair_weights(run.terms, batch, epoch=epoch), torch.cat(pair), truth, images
    )
    found = {
        "contradiction_share": report.share,
        "contradiction_top": report.top,
        "contradiction_stretch": report.stretch,
        "same_class_pairs": report.pairs,
    }
    for term in run.terms:
        if term.name == "false_negative_filter":
            chosen = suspects(
                *pair, batch.labels, batch.thresholds, batch.prototypes, rule=term.rule()
            )
            found["filter_precision"], found["filter_recall"] = filter_quality(chosen, truth)
    return found


def _knn_accuracy(run: TrainingRun, order: Tensor) -> float:
    queries = order[: min(QUERIES, len(order) // 4)]
    bank = order[len(queries) : len(queries) + BANK]
    classes = int(run.truth.max()) + 1
    known = _embed(run, bank)
    whole = directed(known)  # an embedding of 0 is no neighbor, and as a query it is wrong
    if not bool(whole.any()):
        return 0.0
    head = knn(known[whole], run.truth[bank][whole], num_classes=classes, k=NEIGHBORS)
    guesses = predict(head(on_sphere(_embed(run, queries))))
    return float((guesses == run.truth[queries]).float().mean())
