"""State the options of `robustcl train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robustcl.declarations.robust import encoder_of
from robustcl.options.shared import DataOptions
from robustcl.options.train_fields import TrainFields


@dataclass(frozen=True, kw_only=True)
class TrainOptions(TrainFields, DataOptions):
    """Train an encoder on the training split, and fit a prototype head on the labeled images.

    Args:
        out: The checkpoint, ending in .safetensors; its log goes beside it as .csv, drawn as .png.
        recipe: A TOML file with any of these options; the command line goes before it.
        arch: small_convnet, strided_convnet, batch_norm_convnet, cifar_resnet18 or, for --robust
            lipschitz, lipschitz_convnet or lipschitz_convnet_large. By default lipschitz_convnet
            for --robust lipschitz, else small_convnet.
        temperature: tau of NT-Xent where loss is simclr; 0.5 by default.
        label_weight: Weight w in (1 - w) simclr + w supcon, where loss is simclr.
        views: auto (by data set), digits, gray or color.
        save_every: Steps between two states from which --resume goes on.
        resume: Go on with a run that was interrupted.
        measure_every: Epochs between measurements of kNN accuracy (on training images),
            contradiction and collapse, which go into the log; 0 for never.
        tensorboard: A folder for TensorBoard's event files, beside the .csv.
        overwrite: Replace an existing checkpoint.
        json: Write one JSON object on stdout.
        quiet: No progress bar.
    """

    out: Path
    recipe: Path | None = None
    arch: str | None = None
    temperature: float | None = None
    label_weight: float = 0.0
    views: Literal["auto", "digits", "gray", "color"] = "auto"
    save_every: int = 500
    resume: bool = False
    measure_every: int = 1
    tensorboard: Path | None = None
    overwrite: bool = False
    json: bool = False
    quiet: bool = False

    @property
    def encoder(self) -> str:
        """The encoder that is trained."""
        return self.arch or encoder_of(self.robust)
