"""Compare inference with many views to inference with one."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustcl.calibration import (
    bootstrap,
    calibration_error,
    check_held_out,
    measure_confidence,
    negative_log_likelihood,
    paired_mean,
    risk_coverage,
    top_label,
)
from robustcl.calibration.errors import untied_bins
from robustcl.core.abstention import answered, predict, warn_abstained
from robustcl.core.classifier import Classifier
from robustcl.evaluation.clean_records import calibration_of, shares_of, temperature_of
from robustcl.models.heads import PrototypeHead
from robustcl.records.arrays import save_arrays
from robustcl.studies.multiview.baselines import ensemble_baseline, fresh_views
from robustcl.studies.multiview.outputs import (
    Outputs,
    Study,
    adversarials,
    all_images,
    certified,
    noisy,
    outputs,
)
from robustcl.studies.multiview.plan import SINGLE

_BINS = 10
_POINTS = 200


def curves(shares: Tensor, labels: Tensor) -> dict[str, list[list[float]]]:
    """Compute a reliability diagram and a risk-coverage curve, with 95 % bands.

    Args:
        shares: (N, K) probabilities.
        labels: (N,) classes.

    Returns:
        'reliability': per bin of nearly equal count (see `untied_bins`), mean confidence, share
        that is right, and its band by bootstrap; 'risk': coverage, risk, and its band by the normal
        approximation.
    """
    confidence, correct = top_label(shares, labels)
    coverage, risk = risk_coverage(confidence, correct)
    rows = []
    for part in untied_bins(confidence, bins=min(_BINS, 1 + len(confidence) // 40)):
        share = bootstrap(
            lambda drawn, part=part: float(correct[part[drawn]].mean()), len(part), draws=200
        )
        rows.append([float(confidence[part].double().mean()), share.value, share.low, share.high])
    thin = torch.linspace(0, len(coverage) - 1, min(_POINTS, len(coverage))).long()
    spread = (risk * (1 - risk) / (coverage * len(labels))).sqrt()
    columns = (coverage, risk, (risk - 1.96 * spread).clamp_min(0), risk + 1.96 * spread)
    return {
        "reliability": rows,
        "risk": torch.stack([column[thin] for column in columns], dim=1).tolist(),
    }


_DRAWS = 300


@dataclass(frozen=True, eq=False)
class Judged:
    """Hold one model of the study.

    Args:
        name: Of the model.
        aggregate: How views are put together; '' for the single view.
        count: Number of views; 0 for the plain image.
        temperature: Fitted on held-out images, after the views were put together.
        scores: By data ('clean', 'noisy'), (N, classes).
    """

    name: str
    aggregate: str
    count: int
    temperature: float
    scores: dict[str, Tensor]

    def shares(self, data: str) -> Tensor:
        """Return probabilities.

        Args:
            data: 'clean' or 'noisy'.

        Returns:
            (N, classes), NaN where the model abstains.
        """
        return torch.softmax(self.scores[data].double() / self.temperature, dim=1)

    def calibration(self, data: str, labels: Tensor) -> dict[str, float]:
        """Measure accuracy and calibration.

        Args:
            data: 'clean' or 'noisy'.
            labels: (N,) of the images.

        Returns:
            As from `calibration_of`.
        """
        return calibration_of(self.scores[data], labels, self.temperature)


def run_study(study: Study) -> dict[str, Any]:
    """Evaluate, attack, certify and compare.

    Args:
        study: The study. Held-out images that are tested as well, or lack a class, are refused.

    Returns:
        Plain values: `models`, `comparisons`, `baseline`, and curves for the figures.
    """
    check_held_out(study.held_out, study.test, num_classes=study.single.num_classes)
    labels = torch.from_numpy(study.test.labels)
    held = outputs(study, "held-out", lambda: all_images(study.held_out))
    seen = {"clean": outputs(study, "clean", lambda: all_images(study.test)),
            "noisy": outputs(study, "noisy", lambda: noisy(study))}  # fmt: skip
    _warn(seen["clean"], "test", "the single view abstains there, which counts as wrong")
    _warn(held, "held-out", "left out of the temperatures")
    own = temperature_of(held.scores[0], torch.from_numpy(study.held_out.labels))
    judged = [_judge(study, "", 0, held, seen, own)]
    for aggregate in study.plan.aggregates:
        for count in study.plan.counts:
            judged.append(_judge(study, aggregate, count, held, seen, own))
    attacked = _models(study, own)
    points = _attacked(study, attacked)
    fooled = _fooled(study, judged, points, labels)
    models = {one.name: _model(study, one, labels, points, fooled) for one in judged}
    pairs = {
        one.name: _compared(study, judged[0], one, labels, fooled) for one in judged if one.count
    }
    _keep(study, judged, labels, fooled)
    drawn = _all_curves(study, judged, labels, points)
    ensemble = ensemble_baseline(study, labels)
    fresh = fresh_views(study, attacked, fooled[SINGLE], own)
    return {"temperature": own, "models": models, "comparisons": pairs, "curves": drawn,
            "baseline": ensemble, "fresh": fresh,
            "per_class": _per_class(study, judged, labels)}  # fmt: skip


def _warn(seen: Outputs, which: str, consequence: str) -> None:
    lost = torch.nonzero(~answered(seen.scores[0]))[:, 0].tolist()
    warn_abstained(lost, consequence, among=f"the {seen.scores.shape[1]} {which} images")


def _judge(
    study: Study, aggregate: str, count: int, held: Outputs, seen: dict[str, Outputs], own: float
) -> Judged:
    scores = held.of(study, aggregate, count, own)
    temperature = temperature_of(scores, torch.from_numpy(study.held_out.labels))
    name = study.plan.name(aggregate, count) if count else SINGLE
    found = {data: part.of(study, aggregate, count, own) for data, part in seen.items()}
    return Judged(name, aggregate, count, temperature, found)


def _models(study: Study, own: float) -> dict[str, Classifier]:
    # Those that are attacked.
    many = {
        study.plan.name(aggregate, study.plan.most): study.model(aggregate, own)
        for aggregate in study.plan.aggregates
    }
    return {SINGLE: study.single, **many}


def _attacked(study: Study, models: Mapping[str, Classifier]) -> dict[str, Outputs]:
    # What the network gives at the points found against each model: everybody is tried on all.
    found = {}
    for name, model in models.items():
        points, _ = adversarials(study, name, model)
        found[name] = outputs(study, f"at-{name.replace(' ', '-')}", lambda at=points: at)
    return found


def _fooled(
    study: Study, judged: list[Judged], points: dict[str, Outputs], labels: Tensor
) -> dict[str, dict[str, Tensor]]:
    # By model and by source of the points, whether its prediction is not the label.
    table: dict[str, dict[str, Tensor]] = {}
    for one in judged:
        if one.count not in (0, study.plan.most):
            continue
        first = next(iter(points.values()))
        own = labels[: first.scores.shape[1]]
        table[one.name] = {"clean": predict(one.scores["clean"][: len(own)]) != own}
        for source, seen in points.items():
            scores = seen.of(study, one.aggregate, one.count, study_temperature(study))
            table[one.name][source] = predict(scores) != own
    return table


def study_temperature(study: Study) -> float:
    """Return the temperature of the single view, which weighs views by confidence.

    Args:
        study: The study, whose held-out images were evaluated.

    Returns:
        T.
    """
    held = outputs(study, "held-out", lambda: all_images(study.held_out))
    return temperature_of(held.scores[0], torch.from_numpy(study.held_out.labels))


def _keep(
    study: Study, judged: list[Judged], labels: Tensor, fooled: dict[str, dict[str, Tensor]]
) -> None:
    # Image by image, for intervals over several studies of the same images.
    right = [(predict(one.scores["clean"]) == labels).numpy() for one in judged]
    tables = fooled.values()
    save_arrays(
        study.folder,
        "judged",
        {
            "names": np.array([one.name for one in judged]),
            "right": np.stack(right),
            "attacked_names": np.array(list(fooled)),
            "transfer": np.stack([_survives(t, ["clean", SINGLE]).numpy() for t in tables]),
            "stood": np.stack([_survives(table, list(table)).numpy() for table in tables]),
        },
    )


def _survives(table: dict[str, Tensor], sources: list[str]) -> Tensor:
    return ~torch.stack([table[source] for source in sources]).any(dim=0)


def _model(
    study: Study,
    one: Judged,
    labels: Tensor,
    points: dict[str, Outputs],
    fooled: dict[str, dict[str, Tensor]],
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "count": one.count,
        "aggregate": one.aggregate,
        "temperature": one.temperature,
        **{data: one.calibration(data, labels) for data in one.scores},
    }
    if isinstance(study.single.head, PrototypeHead) and one.aggregate in ("", "score", "embedding"):
        known = answered(one.scores["clean"])
        similarity, guesses = one.scores["clean"][known].max(dim=1)
        right = guesses == labels[known]
        found["similarity"] = measure_confidence(similarity.double().clamp(0, 1), right)
    if one.name not in fooled:
        return found
    table = fooled[one.name]
    found["robust"] = float(_survives(table, list(table)).double().mean())
    found["robust_by_source"] = {
        source: float(_survives(table, ["clean", source]).double().mean()) for source in points
    }
    worst = points[one.name].of(study, one.aggregate, one.count, study_temperature(study))
    found["attacked"] = calibration_of(worst, labels[: len(worst)], one.temperature)
    if study.plan.certificates:
        name: Any = one.aggregate or study.plan.aggregates[0]
        radii = certified(study, one.name, name, single=not one.count)
        if radii is not None:
            found["certified"] = float((radii >= study.plan.eps).double().mean())
            found["median_certified"] = float(radii.median())
    return found


def _compared(
    study: Study,
    single: Judged,
    one: Judged,
    labels: Tensor,
    fooled: dict[str, dict[str, Tensor]],
) -> dict[str, Any]:
    right = [predict(judged.scores["clean"]) == labels for judged in (single, one)]
    # Probabilities are compared on the images for which both have some.
    both = answered(single.scores["clean"]) & answered(one.scores["clean"])
    shares, known = [judged.shares("clean")[both] for judged in (single, one)], labels[both]
    tops = [top_label(part, known) for part in shares]
    seed = study.plan.seed

    def paired(metric: Callable[[int, Tensor], float]) -> dict[str, float]:
        return asdict(
            bootstrap(
                lambda rows: metric(1, rows) - metric(0, rows), len(known), draws=_DRAWS, seed=seed
            )
        )

    found: dict[str, Any] = {
        "accuracy": asdict(paired_mean([right[1].double() - right[0].double()], seed=seed)),
        "corrections": int((right[1] & ~right[0]).sum()),
        "corruptions": int((right[0] & ~right[1]).sum()),
        "nll": paired(lambda k, rows: negative_log_likelihood(shares[k][rows], known[rows])),
        "ece": paired(lambda k, rows: calibration_error(tops[k][0][rows], tops[k][1][rows])),
    }
    if one.name not in fooled:
        return found
    first, second = fooled[SINGLE], fooled[one.name]
    stood = _survives(first, list(first))
    transfer = _survives(second, ["clean", SINGLE])
    own = _survives(first, ["clean", SINGLE])
    gains = {
        "transfer_gain": (own, transfer),
        "adaptive_gain": (stood, _survives(second, [*second])),
    }
    for name, (before, after) in gains.items():
        found[name] = asdict(paired_mean([after.double() - before.double()], seed=seed))
    return found


def _all_curves(
    study: Study, judged: list[Judged], labels: Tensor, points: dict[str, Outputs]
) -> dict[str, Any]:
    # Of the single view and the first aggregate, clean and at the points of their own attack.
    first = study.plan.name(study.plan.aggregates[0], study.plan.most)
    found = {}
    for one in judged:
        if one.name not in (SINGLE, first):
            continue
        found[one.name] = curves(*shares_of(one.scores["clean"], labels, one.temperature))
        worst = points[one.name].of(study, one.aggregate, one.count, study_temperature(study))
        shares = shares_of(worst, labels[: len(worst)], one.temperature)
        found[f"{one.name}, attacked"] = curves(*shares)
    return found


def _per_class(study: Study, judged: list[Judged], labels: Tensor) -> dict[str, Any]:
    found = {}
    right = predict(judged[0].scores["clean"]) == labels
    for one in judged:
        if one.count != study.plan.most:
            continue
        after = predict(one.scores["clean"]) == labels
        found[one.name] = [
            {
                "class": name,
                "images": int((labels == k).sum()),
                "corrected": int((after & ~right & (labels == k)).sum()),
                "corrupted": int((right & ~after & (labels == k)).sum()),
            }
            for k, name in enumerate(study.single.class_names)
        ]
    return found
