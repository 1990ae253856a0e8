"""Put everything that a training run needs on its device."""

import copy
import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robustcl.core.classifier import Encoder
from robustcl.core.errors import InputError
from robustcl.core.hashes import network_hash
from robustcl.data.dataset import Dataset
from robustcl.data.subsets import label_subset
from robustcl.data.views.options import ViewOptions, default_views
from robustcl.models.dual_batch_norm import split_batch_norm
from robustcl.records.reading import config_hash
from robustcl.training.frozen_teacher import frozen_teacher
from robustcl.training.label_batches import LabelBatches, label_batches
from robustcl.training.losses.sums import LABELED, Term
from robustcl.training.norm_penalty import NormProbe, norm_probes
from robustcl.training.optimizers import build_optimizer
from robustcl.training.processes import check_divisible
from robustcl.training.recipe import TrainRecipe
from robustcl.training.robust._acl import Acl
from robustcl.training.robust.inner_attack import InnerAttack
from robustcl.training.robust.method import RobustMethod
from robustcl.training.targets import embed_targets, load_targets

PROJECTION = 128  # outputs of the projector


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """Hold a run; tensors, weights, optimizer and generator change in place.

    Args:
        encoder: What is trained.
        model: The encoder, followed by the projector where there is one.
        network: The model, or its compiled version.
        average: The moving average of the model, in eval mode, or None.
        images: (N, C, H, W) all training images.
        truth: (N,) their labels, which only measurements see.
        labels: (N,) the labels that losses see, -1 where unknown.
        terms: The losses.
        targets: (K, d) class vectors, or None.
        labeled: What class-stratified batches are drawn from, or None.
        thresholds: (N,) learned thresholds of the filter, NaN where there is none yet.
        prototypes: (K, d) running sums of labeled embeddings, for the filter.
        views: How views are drawn.
        probes: Of the log-norm penalty.
        method: How training is made robust, or None.
        attack: What finds attacked views, or None.
        teacher: Of 'deacl', frozen and in eval mode, or None.
        classes: The class layer of `cross_entropy`, trained along, or None.
        optimizer: Of the weights of model and class layer.
        generator: Source of order and views.
        recipe: All options.
        key: What a resumed run must have in common, as text and in JSON.
    """

    encoder: Encoder
    model: nn.Module
    network: nn.Module
    average: nn.Module | None
    images: Tensor
    truth: Tensor
    labels: Tensor
    terms: tuple[Term, ...]
    targets: Tensor | None
    labeled: LabelBatches | None
    thresholds: Tensor
    prototypes: Tensor
    views: ViewOptions
    probes: tuple[NormProbe, ...]
    method: RobustMethod | None
    attack: InnerAttack | None
    teacher: Encoder | None
    classes: nn.Linear | None
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    recipe: TrainRecipe
    key: str


def begin_training(
    encoder: Encoder,
    dataset: Dataset,
    recipe: TrainRecipe,
    device: torch.device,
    *,
    attack: InnerAttack | None = None,
    teacher: Encoder | None = None,
) -> TrainingRun:
    """Check that data and recipe fit, and put all on the device.

    Args:
        encoder: Moved to the device and put into training mode.
        dataset: Training images, and labels where the recipe needs them.
        recipe: All options.
        device: Where to train.
        attack: What finds attacked views, where the recipe wants them.
        teacher: A trained encoder, where the recipe wants one.

    Returns:
        The run. With 'acl' and 'dynacl' its model has two BatchNorm branches.

    Raises:
        InputError: When labels, an attack or a teacher are wanted and absent, labels are of one
            class only, or a batch is larger than the data set.
    """
    per_step = recipe.batch_size * recipe.accumulate
    if len(dataset) < per_step:
        raise InputError(
            f"{dataset.name!r} has {len(dataset)} images, fewer than batch_size "
            f"{recipe.batch_size} x accumulate {recipe.accumulate}; lower the batch size"
        )
    check_divisible(recipe.batch_size, "batch_size")
    method = recipe.method
    if method is not None:
        method.check_encoder(encoder)
    known = known_labels(dataset, recipe)
    generator = torch.Generator(device).manual_seed(recipe.seed)
    encoder.to(device).train()
    probes: tuple[NormProbe, ...] = ()
    if recipe.log_norm_penalty:
        shape = dataset.image_shape
        probes = norm_probes(encoder.backbone, image_shape=shape, generator=generator)
    if method is not None:
        method.begin(encoder.backbone)
    labels = torch.from_numpy(known).to(device)
    size = _embedding_size(encoder, dataset, device)
    model = encoder
    if recipe.projector:
        model = nn.Sequential(encoder, projector(size, recipe.projector)).to(device)
        size = PROJECTION
    teacher = frozen_teacher(recipe, attack, teacher, size, device)
    if isinstance(recipe.method, Acl):
        split_batch_norm(model)
    classes, weights = None, list(model.parameters())
    if any(term.name == "cross_entropy" for term in recipe.terms):
        classes = nn.Linear(size, dataset.num_classes).to(device)
        weights += classes.parameters()
    return TrainingRun(
        encoder=encoder,
        model=model,
        network=_compiled(model) if recipe.compile else model,
        average=copy.deepcopy(model).eval().requires_grad_(False) if recipe.ema else None,
        images=dataset.tensor().to(device),
        truth=torch.from_numpy(dataset.labels).to(device),
        labels=labels,
        terms=recipe.terms,
        targets=_targets(dataset, recipe, size, device),
        labeled=_labeled(labels, recipe),
        thresholds=torch.full((len(dataset),), torch.nan, device=device),
        prototypes=torch.zeros(dataset.num_classes, size, device=device),
        views=recipe.views or default_views(dataset.name, dataset.image_shape),
        probes=probes,
        method=recipe.method,
        attack=attack,
        teacher=teacher,
        classes=classes,
        optimizer=build_optimizer(weights, recipe),
        generator=generator,
        recipe=recipe,
        key=run_key(encoder, dataset, recipe, teacher=teacher),
    )


def projector(size: int, hidden: int) -> nn.Sequential:
    """Build the perceptron that SimCLR puts between embedding and loss.

    Args:
        size: d of the embedding.
        hidden: Hidden units.

    Returns:
        (B, d) to (B, 128), with fresh weights.

    Reference:
        Chen et al., A Simple Framework for Contrastive Learning of Visual Representations,
        ICML 2020, section 4.2, with BatchNorm as in its code.
    """
    return nn.Sequential(
        nn.Linear(size, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, PROJECTION),
    )


def known_labels(dataset: Dataset, recipe: TrainRecipe) -> np.ndarray:
    """Return the labels that losses may see.

    Args:
        dataset: The training images.
        recipe: Its share and seed of known labels count.

    Returns:
        (N,) labels, -1 where unknown.

    Raises:
        InputError: When the losses need labels that are absent or of one class only.
    """
    if not recipe.needs_labels:
        return np.full(len(dataset), -1, dtype=np.int64)
    if not dataset.labeled:
        raise InputError(
            f"{dataset.name!r} has no labels but loss {recipe.loss!r} needs them; use simclr"
        )
    if len(np.unique(dataset.labels)) < 2:
        raise InputError(
            f"{dataset.name!r} has images of one class only, so loss {recipe.loss!r} has nothing "
            "to tell apart; add other classes, or use simclr"
        )
    rows = label_subset(
        dataset.labels, recipe.labels, num_classes=dataset.num_classes, seed=recipe.label_seed
    )
    known = np.full(len(dataset), -1, dtype=np.int64)
    known[rows] = dataset.labels[rows]
    return known


def run_key(
    encoder: Encoder, dataset: Dataset, recipe: TrainRecipe, *, teacher: Encoder | None = None
) -> str:
    """State what a resumed run must have in common with the one before, in JSON.

    Args:
        encoder: The shapes of its weights count, not their values.
        dataset: The training images and labels.
        recipe: Every option counts.
        teacher: Its weights count.

    Returns:
        The text; two runs with the same text make the same steps.
    """
    shapes = {name: list(value.shape) for name, value in encoder.state_dict().items()}
    parts = {
        **recipe.to_dict(),
        "data": dataset.name,
        "data_hash": dataset.hash(),
        "weights": config_hash(shapes),
        **({} if teacher is None else {"teacher_hash": network_hash(teacher)}),
    }
    return json.dumps(parts, sort_keys=True)


def _embedding_size(encoder: Encoder, dataset: Dataset, device: torch.device) -> int:
    image = dataset.batch([0]).images.to(device)
    encoder.eval()
    with torch.no_grad():
        size = int(encoder(image).shape[1])
    encoder.train()
    return size


def _targets(
    dataset: Dataset, recipe: TrainRecipe, size: int, device: torch.device
) -> Tensor | None:
    if not any(term.name == "semantic" for term in recipe.terms):
        return None
    names = dataset.class_names or tuple(str(k) for k in range(dataset.num_classes))
    vectors = load_targets(recipe.targets, names)
    return embed_targets(vectors, size, seed=recipe.label_seed).to(device)


def _labeled(labels: Tensor, recipe: TrainRecipe) -> LabelBatches | None:
    size = recipe.labeled_batch
    if not any(term.name in LABELED for term in recipe.terms):
        return None
    if size is None:
        size = recipe.batch_size // 4 if recipe.labels < 1.0 else 0
    batches = label_batches(labels, size) if size else None
    check_divisible(len(batches) if batches else 0, "labeled_batch, in whole classes,")
    return batches


def _compiled(model: nn.Module) -> nn.Module:
    compiled = torch.compile(model)
    assert isinstance(compiled, nn.Module)
    return compiled
