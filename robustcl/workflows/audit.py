"""Audit a model from Python."""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from robustcl.certify.methods import Method
from robustcl.core.budgets import read_budgets
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.evaluation.config import DEFAULT_EPS, EvaluationConfig
from robustcl.evaluation.manifest import Origin
from robustcl.evaluation.measuring import evaluate
from robustcl.evaluation.minutes import check_minutes, evaluate_within
from robustcl.evaluation.minutes_plan import MINUTES_EPS, choose_plan
from robustcl.models.reference import Reference, compare_logits
from robustcl.records.reading import Run, load_run
from robustcl.records.summary import Summary, summarize
from robustcl.report.headline import headline
from robustcl.report.page import write_report
from robustcl.report.tables import tables
from robustcl.workflows.given import Data, given_data, given_model
from robustcl.workflows.own_methods import OwnAttack, own_methods

_COMPARED = 8  # images on which a reference is asked
_USUAL = ("product", "smoothing:sigma=.25,n=1000", "first_order")


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
    reference: float | Callable[[Tensor], Tensor] | None = None,
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
            is no black box), smoothing and, but for L1, first_order, or, with `minutes`, what fits.
        attacks: Attacks, as in 'pgd:steps=100'; '' for none; a function (objective, images, threat,
            *, seeds) to `robustcl.attacks.Candidates` is one of the caller's own. None for pgd, or,
            with `minutes`, what fits.
        minutes: Measure what fits into so many minutes, in one random order of the images, as
            `certify run --minutes` does; None for all images.
        output: Of a model that returns several things, the key, name or position of its scores, as
            in 'logits'.
        reference: What is known of the model: its accuracy on this data, which the report compares,
            or the network that it was made from, whose scores have to be those of the model.
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
    given, transform = given_model(model, output)
    names = given.class_names if isinstance(given, Classifier) else None
    kept = tempfile.TemporaryDirectory(prefix="robustcl-") if out is None else None
    folder = Path(kept.name) / "run" if kept is not None else Path(out or "")
    budgets = (MINUTES_EPS[norm],) if minutes is not None else DEFAULT_EPS[norm]
    budgets = budgets if eps is None else eps
    grid = read_budgets(budgets, norm) if isinstance(budgets, str) else tuple(budgets)
    source = given_data(data, seed=seed, classes=names, transform=transform)
    classifier = _wrapped(given, source.image_shape)
    known = None
    if callable(reference):
        few = source.take(min(_COMPARED, source.count)).batch(range(min(_COMPARED, source.count)))
        compare_logits(classifier, few.images, reference)
    elif reference is not None:
        known = Reference("the caller", reference)
    origin = Origin(reference=known)
    usual = _USUAL if _is_open(classifier) else _USUAL[1:2]
    usual = usual[:2] if norm == "l1" else usual  # an estimate in L2 is none in L1
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
                classifier, source.take(limit), config, folder, device=device, resume=resume,
                progress=progress, origin=origin,
            )  # fmt: skip
        else:
            seconds = 60.0 * check_minutes(minutes)
            with eval_mode(classifier.to(device)):
                plan = choose_plan(
                    classifier, config, seconds=seconds, device=device, methods=methods is None,
                    attacks=attacks is None, available=min(source.count, limit or source.count),
                )  # fmt: skip
            evaluate_within(
                classifier, source.take(plan.images), plan, folder, seconds=seconds,
                begun_at=begun, device=device, resume=resume, progress=progress, origin=origin,
            )  # fmt: skip
        run = load_run(folder)
        return AuditResult(folder, summarize(run), run, kept)


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
