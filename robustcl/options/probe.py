"""State the options of `robustcl probe`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from robustcl.core.choices import Norm
from robustcl.options.model_fields import ModelFields
from robustcl.options.shared import DataOptions


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(ModelFields, DataOptions):
    """Fit a head on labeled images of the training split.

    With prototype, linear and knn the encoder's weights and BatchNorm statistics stay as they are,
    which a hash proves. A fifth of the labeled images is held out from a first head, to measure
    its accuracy and to fit the temperature at which its scores are probabilities. The protocols of
    adversarial contrastive learning train on all images instead.

    Args:
        checkpoint: The encoder: a checkpoint of robustcl, or a weight file.
        out: The new checkpoint, ending in .safetensors.
        head: prototype (where nothing else is asked for), linear, lipschitz_linear (without
            offsets, rows of norm 1 at most) or knn; fine_tune trains the encoder with a linear
            head.
        protocol: In place of a head: slf (a linear head on clean images, the encoder frozen), alf
            (on attacked ones) or aff (encoder and head by TRADES).
        labels: Share of training images whose labels are used, the same number in every class.
        label_seed: Seed of their choice; with that of training, the same images.
        epochs: Passes of fine_tune (10) and of protocols (25), whose schedules shrink with them.
        learning_rate: Peak rate of fine_tune (3e-4), first rate of slf (.1), alf (.01), aff (.1).
        eps: Budget of the attack in alf and aff; 8/255 in Linf and 0.5 in L2 by default.
        norm: l2 or linf, the norm of that budget.
        steps: Steps of that attack.
        beta: Weight of the adversarial part in aff.
        overwrite: Replace an existing checkpoint.
        json: Write one JSON object on stdout.
        quiet: No progress bar.
    """

    checkpoint: tyro.conf.Positional[Path]
    out: Path
    head: str | None = None
    protocol: Literal["slf", "alf", "aff"] | None = None
    labels: float = 1.0
    label_seed: int = 0
    epochs: int | None = None
    learning_rate: float | None = None
    eps: str | None = None
    norm: Norm = "linf"
    steps: int = 10
    beta: float = 6.0
    overwrite: bool = False
    json: bool = False
    quiet: bool = False
