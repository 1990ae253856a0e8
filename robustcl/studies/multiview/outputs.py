"""Evaluate and attack the models of a multi-view study, and keep every stage on the disk."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustcl import attacks, certify
from robustcl.core.abstention import on_sphere
from robustcl.core.batching import fixed_size
from robustcl.core.choices import Aggregate
from robustcl.core.classifier import Classifier
from robustcl.core.errors import RunError, UnsupportedError
from robustcl.core.modules import eval_mode
from robustcl.core.objectives import misclassify
from robustcl.core.seeds import example_noise, example_seed
from robustcl.core.threat import Threat
from robustcl.data.dataset import Dataset
from robustcl.data.views import ViewOptions
from robustcl.models.inference_views import LinearView
from robustcl.models.multi_view import MultiView, aggregated
from robustcl.records.arrays import load_arrays, save_arrays
from robustcl.records.study_file import note_stage
from robustcl.studies.multiview.plan import StudyPlan


@dataclass(frozen=True, eq=False)
class Study:
    """Hold what a study is about.

    Args:
        plan: What is compared.
        single: The classifier of one view.
        views: The views, as many as the largest count.
        test: Test images.
        held_out: Images on which temperatures are fitted.
        folder: Where stages are kept.
        device: Where to compute.
        tell: Takes a line for people.
        ensemble: The compute-matched baseline; None for none.
        training: How the encoder's training views were drawn, for fresh ones.
    """

    plan: StudyPlan
    single: Classifier
    views: list[nn.Module]
    test: Dataset
    held_out: Dataset
    folder: Path
    device: str | torch.device
    tell: Callable[[str], None]
    ensemble: Classifier | None = None
    training: ViewOptions | None = None

    def model(self, aggregate: Aggregate, temperature: float) -> MultiView:
        """Return the multi-view model of the largest count.

        Args:
            aggregate: How views are put together.
            temperature: T of the aggregate.

        Returns:
            The model.
        """
        return MultiView(self.single, self.views, aggregate, temperature=temperature)


@dataclass(frozen=True, eq=False)
class Outputs:
    """Hold what the network gives for the plain images and for every view.

    Args:
        scores: (1 + K, N, classes), the plain images first.
        raw: (1 + K, N, d) raw embeddings.
    """

    scores: Tensor
    raw: Tensor

    def of(self, study: Study, aggregate: str, count: int, temperature: float) -> Tensor:
        """Put the first views together.

        Args:
            study: The study.
            aggregate: How.
            count: Number of views; 0 for the plain image.
            temperature: T of the aggregate.

        Returns:
            (N, classes) scores.
        """
        if not count:
            return self.scores[0]
        if aggregate != "embedding":
            chosen: Any = aggregate
            return aggregated(self.scores[1 : count + 1], chosen, temperature=temperature)
        mean = self.raw[1 : count + 1].mean(dim=0)
        if study.single.normalizes:
            mean = on_sphere(mean)
        with torch.no_grad():
            return study.single.head(mean.to(study.single.encoder.mean.device)).cpu()


def staged(study: Study, name: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, Any]:
    """Read a stage from the disk, or compute it and write it there.

    Args:
        study: The study.
        name: Of the stage.
        compute: Computes its arrays.

    Returns:
        The arrays.
    """
    try:
        found = load_arrays(study.folder, name)
    except RunError as error:  # damaged since start_run looked, or no study of this folder
        study.tell(f"{str(error).partition('; repeat')[0]}; it is computed again")
        found = {}
    if not found:
        study.tell(f"{name} …")
        save_arrays(study.folder, name, compute())
        note_stage(study.folder, name)
        found = load_arrays(study.folder, name)
    return found


def outputs(study: Study, name: str, images: Callable[[], Tensor]) -> Outputs:
    """Evaluate the plain images and every view.

    Args:
        study: The study.
        name: Of the stage.
        images: Gives (N, C, H, W).

    Returns:
        Scores and raw embeddings, on the CPU.
    """

    def compute() -> dict[str, np.ndarray]:
        points, views = images().to(study.device), [LinearView(), *study.views]
        scores, raws = [], []
        with torch.no_grad(), eval_mode(study.single):
            for view in views:
                view.to(study.device)

                def raw(part: Tensor, view: nn.Module = view) -> Tensor:
                    return study.single.raw_embeddings(view(part))

                found = fixed_size(raw, points, batch_size=study.plan.batch_size)
                raws.append(found.cpu().numpy())
                scores.append(study.single.head(_seen(study.single, found)).cpu().numpy())
        return {"scores": np.stack(scores), "raw": np.stack(raws)}

    found = staged(study, f"outputs-{name}", compute)
    return Outputs(torch.from_numpy(found["scores"]), torch.from_numpy(found["raw"]))


def _seen(single: Classifier, raw: Tensor) -> Tensor:
    return on_sphere(raw) if single.normalizes else raw


def all_images(dataset: Dataset) -> Tensor:
    """Return every image of a data set.

    Args:
        dataset: The images.

    Returns:
        (N, C, H, W) in [0, 1].
    """
    return dataset.batch(range(len(dataset))).images


def noisy(study: Study) -> Tensor:
    """Return the corrupted images: Gaussian noise, clipped to the box.

    Args:
        study: The study.

    Returns:
        (N, C, H, W).
    """
    images = all_images(study.test)
    seeds = [example_seed(study.plan.seed, row, "corruption") for row in range(len(images))]
    return (images + study.plan.noise * example_noise(seeds, images.shape[1:])).clamp(0.0, 1.0)


def adversarials(
    study: Study, name: str, model: Classifier, *, draws: int = 0
) -> tuple[Tensor, Tensor]:
    """Attack a model on the first test images, all of which are to leave their label.

    Args:
        study: The study.
        name: Of the model.
        model: The model.
        draws: Of a randomized model: the average over so many draws is attacked; 0 for none.

    Returns:
        (A, C, H, W) points, the image itself where none was found, and (A,) whether one was.
    """
    plan = study.plan
    batch = study.test.batch(range(min(plan.attacked, len(study.test)))).to(study.device)
    specification = attacks.parse_attack(plan.attack)
    options: dict[str, Any] = dict(specification.options)

    def compute() -> dict[str, np.ndarray]:
        aim = misclassify(model, batch.labels)
        if draws:
            # The margin of the mean score, not the mean margin: one class for all draws.
            average = attacks.expectation(aim, draws=draws, seed=plan.seed)
            assert average.classifier is not None
            mean = misclassify(average.classifier, batch.labels)
            aim = replace(mean, evaluations=average.evaluations)
        found = attacks.run_attack(
            specification.name,
            aim,
            batch.images,
            Threat(plan.norm, plan.eps),
            seeds=[example_seed(plan.seed, row, name) for row in batch.index.tolist()],
            batch_size=min(plan.batch_size, len(batch)),
            **options,
        )
        points, gradients = found.adversarials.cpu().numpy(), found.gradients.numpy()
        return {"points": points, "success": found.success.cpu().numpy(), "gradients": gradients}

    found = staged(study, f"attacked-{name.replace(' ', '-')}", compute)
    return torch.from_numpy(found["points"]), torch.from_numpy(found["success"])


def certified(study: Study, name: str, aggregate: Aggregate, *, single: bool) -> Tensor | None:
    """Certify a model on the first test images.

    Args:
        study: The study.
        name: Of the model.
        aggregate: How views are put together.
        single: Whether the one plain view is meant.

    Returns:
        (A,) radii about the label, 0 where the prediction is wrong; None where the certificate does
        not treat the model.
    """
    plan = study.plan
    batch = study.test.batch(range(min(plan.attacked, len(study.test)))).to(study.device)
    views = [LinearView()] if single else study.views
    norm = "linf" if plan.norm == "linf" else "l2"  # |v|_2 <= |v|_1, so a radius of L2 holds in L1
    model = MultiView(study.single, views, aggregate)
    try:
        prepared = certify.prepared_views(model, norm=norm)
    except UnsupportedError as error:
        study.tell(f"no certificate of {name}: {error}")
        return None

    def compute() -> dict[str, np.ndarray]:
        claim = certify.multi_view(model, batch.images, norm=norm, steps=0, prepared=prepared)
        right = claim.predicted.cpu() == batch.labels.cpu()
        return {"radius": torch.where(right, claim.radius.cpu(), 0.0).numpy()}

    return torch.from_numpy(staged(study, f"certified-{name.replace(' ', '-')}", compute)["radius"])
