"""Train, fit, load, save and audit from Python: what the commands do, as plain functions."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from robustcl.attacks._inner_ascent import inner_ascent
from robustcl.certify.methods import Method
from robustcl.core.budgets import read_budgets
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.data.dataset import Dataset
from robustcl.data.loading import load_data
from robustcl.data.splits import draw_order
from robustcl.data.subsets import label_subset
from robustcl.declarations.robust import encoder_of
from robustcl.evaluation.config import DEFAULT_EPS, EvaluationConfig
from robustcl.evaluation.measuring import evaluate
from robustcl.evaluation.minutes import (
    MINUTES_EPS,
    check_minutes,
    choose_plan,
    evaluate_within,
)
from robustcl.models.architectures import build_backbone, embedding_size
from robustcl.models.checkpoint import save_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders import ARCHITECTURES
from robustcl.models.heads.fitting import fit_head
from robustcl.models.sources.opening import open_model
from robustcl.models.sources.request import ModelRequest
from robustcl.records.reading import Run, load_run
from robustcl.records.summary import Summary, summarize
from robustcl.report.headline import headline
from robustcl.report.page import write_report
from robustcl.report.tables import tables
from robustcl.training.loop import train_encoder
from robustcl.training.recipe import TrainRecipe
from robustcl.training.robust import NoisyViews
from robustcl.workflows.own_methods import OwnAttack, own_methods

Images = Tensor | np.ndarray
Data = str | Path | Dataset | TorchDataset | DataLoader | tuple[Images, Images | Sequence[int]]


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


@torch.inference_mode(False)
def audit(
    model: nn.Module | ExportedProgram | str | Path,
    data: Data,
    *,
    norm: Norm = "l2",
    methods: str | Sequence[str | Method] | None = None,
    attacks: str | Sequence[str | OwnAttack] | None = None,
    minutes: float | None = None,
    output: str | int | None = None,
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
        model: A classifier; a network from images in [0, 1] to class scores, a TorchScript or
            `torch.export` program among them (they are black boxes: attacked where they have
            gradients, and smoothed); or what `certify run` opens: a checkpoint, a weight file, the
            folder of a model, or FILE.py:factory.
        data: A source as on the command line ('digits', 'PATH'), a data set, a torch `Dataset` or
            `DataLoader` of images in [0, 1] with labels, or images (N, C, H, W) with labels (N,).
        norm: 'l2', 'linf' or 'l1'.
        methods: Certificates, as in 'sound,smoothing:sigma=.25'; '' for none; a
            `robustcl.certify.Method` is one of the caller's own. None for product (where the model
            is no black box), smoothing and first_order, or, with `minutes`, what fits.
        attacks: Attacks, as in 'pgd:steps=100'; '' for none; a function (objective, images, threat,
            *, seeds) to `robustcl.attacks.Candidates` is one of the caller's own. None for pgd, or,
            with `minutes`, what fits.
        minutes: Measure what fits into so many minutes, in one random order of the images, as
            `certify run --minutes` does; None for all images.
        output: Of a model that returns several things, the key, name or position of its scores, as
            in 'logits'.
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
    begun = time.monotonic()
    given = _classifier(model, output)
    names = given.class_names if isinstance(given, Classifier) else None
    kept = tempfile.TemporaryDirectory(prefix="robustcl-") if out is None else None
    folder = Path(kept.name) / "run" if kept is not None else Path(out or "")
    budgets = (MINUTES_EPS[norm],) if minutes is not None else DEFAULT_EPS[norm]
    budgets = budgets if eps is None else eps
    grid = read_budgets(budgets, norm) if isinstance(budgets, str) else tuple(budgets)
    dataset = _dataset(data, limit=limit, seed=seed, classes=names)
    classifier = _wrapped(given, dataset.image_shape)
    usual = _USUAL if _is_open(classifier) else _USUAL[1:2]
    asked = (usual if methods is None else methods, ("pgd",) if attacks is None else attacks)
    with own_methods(*asked) as (certificates, attacked):
        config = EvaluationConfig(
            norm=norm,
            methods=certificates,
            attacks=attacked,
            eps=grid,
            seed=seed,
            batch_size=batch_size,
        )
        if minutes is None:
            evaluate(
                classifier, dataset, config, folder, device=device, resume=resume, progress=progress
            )
        else:
            seconds = 60.0 * check_minutes(minutes)
            with eval_mode(classifier.to(device)):
                plan = choose_plan(
                    classifier, config, seconds=seconds, device=device, methods=methods is None,
                    attacks=attacks is None,
                )  # fmt: skip
            order = draw_order(dataset.labels, seed=seed)[: plan.images]
            evaluate_within(
                classifier, dataset.select(order), plan, folder, seconds=seconds, begun_at=begun,
                device=device, resume=resume, progress=progress,
            )  # fmt: skip
        run = load_run(folder)
        return AuditResult(folder, summarize(run), run, kept)


_USUAL = ("product", "smoothing:sigma=.25,n=1000", "first_order")


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
    """Load a model: a checkpoint, a weight file, the folder of a model, or FILE.py:factory.

    Args:
        path: Where it is, see `robustcl.models.sources`.
        arch: Architecture of a weight file; of a checkpoint that code of the user built, where that
            code is, unless it was approved before.

    Returns:
        The classifier in eval mode, or the encoder where there is no head.

    Raises:
        CheckpointError: When it cannot be loaded (see `open_model`).
    """
    found = open_model(path, ModelRequest(arch=arch))
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


class _Program(nn.Module):
    # An exported program, which is in the mode in which it was exported and refuses another.

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def train(self, mode: bool = True) -> "_Program":
        self.training = mode
        return self

    def forward(self, images: Tensor) -> Tensor:
        return self.program(images)


class _OneOutput(nn.Module):
    # One of several things that a network returns.

    def __init__(self, network: nn.Module, output: str | int) -> None:
        super().__init__()
        self.network = network
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        found = self.network(images)
        try:
            return found[self.output] if not isinstance(self.output, str) or isinstance(
                found, Mapping) else getattr(found, self.output)  # fmt: skip
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            kind = type(found).__name__
            raise InputError(f"the network returns a {kind} without {self.output!r}") from error


def _classifier(
    model: nn.Module | ExportedProgram | str | Path, output: str | int | None
) -> nn.Module:
    if isinstance(model, ExportedProgram):
        model = _Program(model.module())
    if isinstance(model, nn.Module):
        if isinstance(model, Encoder):
            raise InputError("an encoder has no classes; fit a head first: robustcl.fit_head")
        return model if output is None else _OneOutput(model, output)
    found = open_model(model)
    if found.classifier is None:
        raise InputError(f"{str(model)!r} has no head; fit one first: robustcl.fit_head")
    return found.classifier


def _wrapped(model: nn.Module, shape: tuple[int, int, int]) -> Classifier:
    if isinstance(model, Classifier):
        return model
    with eval_mode(model):
        return Classifier.from_scores(model, image_shape=shape)


def _is_open(classifier: Classifier) -> bool:
    # Whether a certificate of the network itself can be asked for.
    return not any(isinstance(part, torch.jit.ScriptModule) or _is_exported(part)
                   for part in classifier.modules())  # fmt: skip


def _is_exported(part: nn.Module) -> bool:
    return isinstance(part, torch.fx.GraphModule)


def _dataset(
    data: Data,
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> Dataset:
    if isinstance(data, str | Path):
        return load_data(str(data), split=split, limit=limit, seed=seed, classes=classes)
    if isinstance(data, DataLoader | TorchDataset):
        data = _of_torch(data)
    if not isinstance(data, Dataset):
        pixels, known = (torch.as_tensor(part).detach().cpu() for part in data)
        if pixels.ndim != 4:
            raise InputError(f"images of shape {tuple(pixels.shape)} are not (N, C, H, W)")
        small = pixels.dtype in (torch.bfloat16, torch.float16)
        pixels = pixels.float() if small else pixels
        data = Dataset("images", pixels.numpy().transpose(0, 2, 3, 1), known.numpy())
    if limit is None or limit >= len(data):
        return data
    return data.select(np.sort(draw_order(data.labels, seed=seed)[:limit]))


def _of_torch(data: DataLoader | TorchDataset) -> Dataset:
    # Batches of (images, labels), or items of (image, label); class names where they are known.
    source = data.dataset if isinstance(data, DataLoader) else data
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for item in data if isinstance(data, DataLoader) else _items(data):
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise InputError(
                f"the data gives a {type(item).__name__}, not images with labels; wrap it to "
                "return (images, labels)"
            )
        pixels, known = torch.as_tensor(np.asarray(item[0]) if not isinstance(item[0], Tensor)
                                        else item[0]), torch.as_tensor(item[1])  # fmt: skip
        if isinstance(data, DataLoader):
            images += list(pixels)
            labels += list(known.reshape(-1))
        else:
            images.append(pixels)
            labels.append(known.reshape(()))
    if not images:
        raise InputError("the data gives no image")
    shapes = {tuple(one.shape) for one in images}
    if len(shapes) > 1 or len(next(iter(shapes))) != 3:
        raise InputError(
            f"the data gives images of shapes {sorted(shapes)[:3]}; give tensors (C, H, W) of one "
            "size, as of ToTensor(), without normalization"
        )
    stacked = torch.stack([one.float() if one.dtype != torch.uint8 else one for one in images])
    names = getattr(source, "classes", ()) or ()
    plain = tuple(map(str, names)) if isinstance(names, list | tuple) else ()
    return Dataset(
        type(source).__name__,
        stacked.numpy().transpose(0, 2, 3, 1),
        torch.stack(labels).long().numpy(),
        plain,
    )


def _items(data: TorchDataset) -> Iterator[object]:
    if hasattr(data, "__len__"):
        yield from (data[index] for index in range(len(data)))  # pyright: ignore[reportArgumentType]
    else:
        yield from iter(data)  # pyright: ignore[reportCallIssue, reportArgumentType]
