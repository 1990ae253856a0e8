"""Spend the forward passes of several views on several networks instead."""

from typing import Any

import torch
from torch import Tensor

from robustcl.auditing.study_outputs import Study, adversarials, all_images, staged
from robustcl.core.abstention import predict
from robustcl.core.batching import padded
from robustcl.evaluation.clean_records import calibration_of, temperature_of


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
                name: padded(
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
