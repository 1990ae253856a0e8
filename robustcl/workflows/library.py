"""Train, fit, load, save and audit from Python: what the commands do, as plain functions."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from robustcl.attacks._inner_ascent import inner_ascent
from robustcl.core.budgets import read_budgets
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.core.specification import split_specifications
from robustcl.data.dataset import Dataset
from robustcl.data.loading import load_data
from robustcl.data.splits import draw_order
from robustcl.data.subsets import label_subset
from robustcl.declarations.robust import encoder_of
from robustcl.evaluation.config import DEFAULT_EPS, EvaluationConfig
from robustcl.evaluation.measuring import evaluate
from robustcl.models.architectures import build_backbone, embedding_size
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders import ARCHITECTURES
from robustcl.models.heads.fitting import fit_head
from robustcl.records.reading import Run, load_run
from robustcl.records.summary import Summary, summarize
from robustcl.report.headline import headline
from robustcl.report.page import write_report
from robustcl.report.tables import tables
from robustcl.training.loop import train_encoder
from robustcl.training.recipe import TrainRecipe
from robustcl.training.robust import NoisyViews

Images = Tensor | np.ndarray
Data = str | Dataset | tuple[Images, Images | Sequence[int]]


@dataclass(frozen=True, eq=False)
class AuditResult:
    """Hold what an audit found; print it, or look at it in a notebook.

    Args:
        folder: The run folder: records, manifest, arrays.
        summary: Clean, certified and attacked accuracy, radii, violations.
    """

    folder: Path
    summary: Summary
    _run: Run = field(repr=False)
    _kept: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    def frame(self, table: str = "images") -> pd.DataFrame:
        """Return a table.

        Args:
            table: 'images' (one row per image), 'methods', 'attacks', 'estimates', 'curves' or
                'budget'.

        Returns:
            Radii in pixel units, rates in [0, 1]; infinite where an attack found nothing.

        Raises:
            InputError: When there is no such table.
        """
        found = tables(self._run, self.summary)
        if table not in found:
            raise InputError(f"no table {table!r}; use {', '.join(found)}")
        return found[table]

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report: one page that needs nothing else.

        Args:
            path: Where the page goes; None for report.html in the run folder.

        Returns:
            Its path.
        """
        page = write_report(self.folder)
        return page if path is None else Path(shutil.copyfile(page, path))

    def __str__(self) -> str:
        return f"{headline(self.summary)}\n\n{self.frame('methods').to_string(index=False)}"

    def _repr_html_(self) -> str:
        parts = [self.frame(name).to_html(index=False) for name in ("methods", "attacks")]
        return f"<p>{headline(self.summary)}</p>{''.join(parts)}"


def audit(
    model: nn.Module | str | Path,
    data: Data,
    *,
    norm: Norm = "l2",
    methods: str | Sequence[str] = ("product", "smoothing:sigma=.25,n=1000", "first_order"),
    attacks: str | Sequence[str] = ("pgd",),
    eps: str | Sequence[float] | None = None,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 128,
    device: str = "cpu",
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> AuditResult:
    """Certify and attack a model on images, as `certify run` does.

    Every radius is in pixel units of images in [0, 1]. Certified radii say what their row in
    `robustcl.certify.METHODS` claims, about the subject that it names; attacked radii are measured
    again in float64 and are upper bounds of the true ones.

    Args:
        model: A classifier, a network from images in [0, 1] to class scores, or a checkpoint.
        data: A source as on the command line ('digits', 'imagefolder:PATH'), a data set, or images
            (N, C, H, W) in [0, 1] with labels (N,).
        norm: 'l2', 'linf' or 'l1'.
        methods: Certificates, as in 'sound,smoothing:sigma=.25'; '' for none.
        attacks: Attacks, as in 'pgd:steps=100'; '' for none.
        eps: Ascending budgets of the attacks, as in '1/255,2/255'; None for those of the norm.
        limit: So many images, drawn with the same share of every class.
        seed: Of all noise and of the draw.
        batch_size: Images per model call.
        device: Where to compute.
        out: The run folder; None for a temporary one that lives as long as the result.
        resume: Whether to go on with a run in `out`.
        progress: Whether to show a bar on stderr.

    Returns:
        The result.

    Raises:
        InputError: When the model, the data or an option is not usable.
    """
    classifier = _classifier(model)
    names = classifier.class_names if isinstance(classifier, Classifier) else ()
    dataset = _dataset(data, limit=limit, seed=seed, classes=names or None)
    if not isinstance(classifier, Classifier):
        with eval_mode(classifier):
            classifier = Classifier.from_scores(classifier, image_shape=dataset.image_shape)
    budgets = DEFAULT_EPS[norm] if eps is None else eps
    config = EvaluationConfig(
        norm=norm,
        methods=_texts(methods),
        attacks=_texts(attacks),
        eps=read_budgets(budgets, norm) if isinstance(budgets, str) else tuple(budgets),
        seed=seed,
        batch_size=batch_size,
    )
    kept = tempfile.TemporaryDirectory(prefix="robustcl-") if out is None else None
    folder = Path(kept.name) / "run" if kept is not None else Path(out or "")
    evaluate(classifier, dataset, config, folder, device=device, resume=resume, progress=progress)
    run = load_run(folder)
    return AuditResult(folder, summarize(run), run, kept)


def train(
    data: Data,
    *,
    arch: str | None = None,
    out: str | Path | None = None,
    teacher: Encoder | None = None,
    device: str = "cpu",
    progress: bool = False,
    **options: Any,
) -> Classifier | Encoder:
    """Train an encoder, and fit a prototype head where there are labels, as `robustcl train` does.

    Args:
        data: A source, a data set, or images and labels, as of `audit`; the training split of a
            source is used.
        arch: An encoder of this package, or torchvision:NAME, timm:NAME; None for the one that
            `robust` wants, or small_convnet.
        out: A new checkpoint to write, ending in .safetensors; None for none.
        teacher: What the student of robust='deacl' learns from.
        device: Where to train.
        progress: Whether to show a bar on stderr.
        **options: Fields of `robustcl.training.TrainRecipe`: loss, epochs, learning_rate, robust,
            labels, seed, ...

    Returns:
        The classifier on the CPU, in eval mode; its head has seen the share `labels` of the labels
        and, for robust='noise', the same noise. An encoder where there are no labels.

    Raises:
        InputError: When the data or an option is not usable, or `out` exists.
    """
    unknown = set(options) - set(signature(TrainRecipe).parameters)
    if unknown:
        raise InputError(f"unknown option {min(unknown)!r}; see robustcl.training.TrainRecipe")
    recipe = TrainRecipe(**options)
    if out is not None:  # said before the work, not after it
        _check_new(Path(out))
    dataset = _dataset(data, split="train", seed=recipe.seed)
    name = arch or encoder_of(recipe.robust)
    arguments: dict[str, int] = {"channels": dataset.image_shape[0]}
    if "image_size" in signature(ARCHITECTURES.get(name, dict)).parameters:
        arguments["image_size"] = dataset.image_shape[1]
    torch.manual_seed(recipe.seed)
    encoder = Encoder(build_backbone(name, arguments), image_shape=dataset.image_shape)
    train_encoder(
        encoder,
        dataset,
        recipe,
        device=device,
        progress=progress,
        attack=inner_ascent,
        teacher=teacher,
    )
    encoder.to("cpu").eval()
    model = encoder
    if dataset.labeled and recipe.labels > 0.0:  # no label that the losses may not see
        rows = label_subset(
            dataset.labels, recipe.labels, num_classes=dataset.num_classes, seed=recipe.label_seed
        )
        noise = recipe.method.sigma if isinstance(recipe.method, NoisyViews) else 0.0
        model = fit_head(encoder, dataset.select(rows), noise=noise, seed=recipe.seed)
    if out is not None:
        save(out, model, arch=name, arguments=arguments)
    return model


def load(path: str | Path, *, arch: str | None = None) -> Classifier | Encoder:
    """Load a checkpoint.

    Args:
        path: The file.
        arch: For one made by `package.module:factory`, the same name, typed by the caller.

    Returns:
        The classifier in eval mode, or the encoder where there is no head.

    Raises:
        CheckpointError: When it cannot be loaded (see `load_checkpoint`).
    """
    found = load_checkpoint(path, arch=arch)
    return found.encoder if found.classifier is None else found.classifier


def save(
    path: str | Path,
    model: Classifier | Encoder,
    *,
    arch: str,
    arguments: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint that `load` and every command read.

    Args:
        path: The file, ending in .safetensors.
        model: A classifier with a prototype, linear or kNN head, or an encoder.
        arch: What builds its backbone: an encoder of this package, torchvision:NAME, timm:NAME, or
            package.module:factory.
        arguments: Keyword arguments of that.

    Raises:
        CheckpointError: When the name ends otherwise, or the head cannot be saved.
    """
    encoder = model.encoder if isinstance(model, Classifier) else model
    shape = encoder.image_shape
    described = Description(
        architecture=arch,
        arguments=dict(arguments or {}),
        image_shape=shape,
        mean=tuple(encoder.mean.flatten().tolist()),
        std=tuple(encoder.std.flatten().tolist()),
        embedding_size=embedding_size(encoder.backbone, shape),
    )
    save_checkpoint(Path(path), model, described)


def _check_new(place: Path) -> None:
    if place.suffix != ".safetensors":
        raise InputError(f"{str(place)!r} does not end in .safetensors; name it so")
    if place.exists():
        raise InputError(f"{str(place)!r} exists; give another name, or remove it first")


def _texts(given: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        return split_specifications(given) if given else ()
    return tuple(given)


def _classifier(model: nn.Module | str | Path) -> nn.Module:
    if isinstance(model, nn.Module):
        if isinstance(model, Encoder):
            raise InputError("an encoder has no classes; fit a head first: robustcl.fit_head")
        return model
    found = load(model)
    if isinstance(found, Encoder):
        raise InputError(f"{str(model)!r} has no head; fit one first: robustcl.fit_head")
    return found


def _dataset(
    data: Data,
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> Dataset:
    if isinstance(data, str):
        return load_data(data, split=split, limit=limit, seed=seed, classes=classes)
    if not isinstance(data, Dataset):
        pixels, known = (torch.as_tensor(part).detach().cpu() for part in data)
        if pixels.ndim != 4:
            raise InputError(f"images of shape {tuple(pixels.shape)} are not (N, C, H, W)")
        pixels = pixels.float() if pixels.dtype == torch.bfloat16 else pixels
        data = Dataset("images", pixels.numpy().transpose(0, 2, 3, 1), known.numpy())
    if limit is None or limit >= len(data):
        return data
    return data.select(np.sort(draw_order(data.labels, seed=seed)[:limit]))
