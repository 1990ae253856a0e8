"""What many views are compared with: ensembles, and fresh views at every call."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from robustcl.calibration import paired_mean
from robustcl.core.abstention import predict
from robustcl.core.batching import fixed_size
from robustcl.core.seeds import example_seed
from robustcl.evaluation.clean_records import calibration_of, temperature_of
from robustcl.models.inference_views import RandomViews
from robustcl.studies.multiview.outputs import Study, adversarials, all_images, staged
from robustcl.studies.multiview.plan import SINGLE


def ensemble_baseline(study: Study, labels: Tensor) -> dict[str, Any] | None:
    """Measure the mean score of several networks on the plain image.

    Args:
        study: The study.
        labels: (N,) of the test images.

    Returns:
        Temperature, metrics on clean images and the share that its own attack leaves; None where
        the study has no ensemble.
    """
    model = study.ensemble
    if model is None:
        return None

    def compute() -> dict[str, Any]:
        with torch.no_grad():
            parts = {
                name: fixed_size(
                    model, all_images(data).to(study.device), batch_size=study.plan.batch_size
                )
                for name, data in (("test", study.test), ("held", study.held_out))
            }
        return {name: part.cpu().numpy() for name, part in parts.items()}

    stored = staged(study, "outputs-ensemble", compute)
    scores, held = (torch.from_numpy(stored[name]) for name in ("test", "held"))
    temperature = temperature_of(held, torch.from_numpy(study.held_out.labels))
    _, success = adversarials(study, "ensemble", model)
    right = (predict(scores) == labels)[: len(success)]
    return {
        "temperature": temperature,
        "clean": calibration_of(scores, labels, temperature),
        "robust": float((right & ~success).double().mean()),
    }


JUDGES = 20  # fresh draws that choose the worst point of an image, and others that judge it
_CLEAN = "clean"


def fresh_views(
    study: Study, models: Mapping[str, Any], fooled: Mapping[str, Tensor], temperature: float
) -> dict[str, Any] | None:
    """Attack the first aggregate of the most views with fresh views, and judge by other draws.

    The attack raises the margin of the mean score over draws that are fixed while it runs. Its
    points and those found against every other model are judged by draws that no attack has seen:
    half of them choose the worst point of each image, the others count how often it is right.

    Args:
        study: The study.
        models: Name to model, those that were attacked; the single view among them.
        fooled: By source of the points, (A,) whether the single view's answer is wrong.
        temperature: Of the single view.

    Returns:
        Shares of the attacked images and draws that are right, and gains over the single view as
        in the other comparisons; None where the plan has no draws.
    """
    plan = study.plan
    if not plan.draws:
        return None
    aggregate = plan.aggregates[0]
    model = RandomViews(
        study.single, plan.views, plan.most, aggregate,
        temperature=temperature, training=study.training,
    )  # fmt: skip
    name = f"{plan.name(aggregate, plan.most)}, fresh"
    points = {key: adversarials(study, key, one)[0] for key, one in models.items()}
    points[name], _ = adversarials(study, name, model, draws=plan.draws)
    labels = torch.from_numpy(study.test.labels)[: len(points[name])]
    points = {_CLEAN: all_images(study.test)[: len(labels)], **points}
    right = {key: _right(study, model, at, labels) for key, at in points.items()}
    stood, own = _shares(right, list(right)), _shares(right, [_CLEAN, SINGLE])
    before = {
        "transfer_gain": _kept(fooled, [_CLEAN, SINGLE]),
        "adaptive_gain": _kept(fooled, list(fooled)),
    }
    return {
        "name": name,
        "draws": plan.draws,
        "judges": JUDGES,
        "clean": float(_shares(right, [_CLEAN]).mean()),
        "robust": float(stood.mean()),
        "robust_by_source": {k: float(_shares(right, [_CLEAN, k]).mean()) for k in points},
        **{
            key: asdict(paired_mean([after - before[key]], seed=plan.seed))
            for key, after in (("transfer_gain", own), ("adaptive_gain", stood))
        },
    }


def _right(study: Study, model: RandomViews, points: Tensor, labels: Tensor) -> Tensor:
    # (2 JUDGES, A): by fresh draw, whether the answer is right.
    found = []
    points = points.to(study.device)
    with torch.no_grad():
        for judge in range(2 * JUDGES):
            seed = example_seed(study.plan.seed, judge, "fresh views") % 2**31
            drawn = model.drawn(seed).to(study.device)
            scores = fixed_size(drawn, points, batch_size=study.plan.batch_size)
            found.append(predict(scores).cpu() == labels)
    return torch.stack(found).double()


def _shares(right: Mapping[str, Tensor], sources: list[str]) -> Tensor:
    # (A,) share of the judging draws that are right at the point the choosing ones find worst.
    each = torch.stack([right[source] for source in sources])
    worst = each[:, :JUDGES].mean(dim=1).argmin(dim=0)
    return each[:, JUDGES:].mean(dim=1).gather(0, worst[None])[0]


def _kept(fooled: Mapping[str, Tensor], sources: list[str]) -> Tensor:
    return (~torch.stack([fooled[source] for source in sources]).any(dim=0)).double()
