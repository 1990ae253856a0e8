"""Show the whole job on scikit-learn's digits."""

import itertools
import time
from pathlib import Path

import torch

from robustcl import __version__
from robustcl.core.classifier import Encoder
from robustcl.core.errors import InputError
from robustcl.core.last_handler import stop_code
from robustcl.core.output_folder import OutputFolder
from robustcl.core.terminal import answer, say
from robustcl.data import load_data
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.manifest import Origin
from robustcl.evaluation.measuring import evaluate
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders import small_convnet
from robustcl.models.heads.fitting import fit_head
from robustcl.options.demo import DemoOptions
from robustcl.training import DEMO_ARCHITECTURE, DEMO_RECIPE, train_encoder
from robustcl.workflows.data import check_device
from robustcl.workflows.outputs import finish

_METHODS = ("sound", "product", "smoothing:sigma=0.25,n=1000", "first_order", "jacobian_norm")
_EPS = (0.1, 0.25, 0.5, 1.0, 2.0)


def demo(options: DemoOptions) -> int:
    """Run `certify demo`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        InputError: When the folder is in use.
    """
    started = time.monotonic()
    folder = options.out or _free_name()
    OutputFolder(folder).check_start()
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{str(folder)!r} is not empty; give a new --out")
    check_device(options.device)
    OutputFolder(folder).claim("encoder.safetensors")
    checkpoint = folder / "encoder.safetensors"
    _train(options, checkpoint)
    loaded = load_checkpoint(checkpoint)
    assert loaded.classifier is not None
    say("certifying and attacking 450 test images")
    try:
        evaluate(
            loaded.classifier,
            load_data("digits", split="test", seed=options.seed),
            EvaluationConfig(
                methods=_METHODS, eps=_EPS, seed=options.seed, batch_size=options.batch_size
            ),
            folder,
            origin=Origin(loaded.hash, f"certify demo --seed {options.seed}"),
            device=options.device,
            progress=not options.quiet,
        )
    except KeyboardInterrupt as stop:
        say(f"interrupted; remove {folder} and start again, it takes about a minute")
        return stop_code(stop)
    code = finish(folder, json=options.json, fresh=True)
    answer(
        f"{time.monotonic() - started:.0f} s in all; checkpoint: {checkpoint}", json=options.json
    )
    return code


def _train(options: DemoOptions, checkpoint: Path) -> None:
    say("training a small ConvNet on 1,347 digits: SimCLR with labels and a log-norm penalty")
    train = load_data("digits", split="train", seed=options.seed)
    torch.manual_seed(options.seed)
    encoder = Encoder(small_convnet(**DEMO_ARCHITECTURE), image_shape=train.image_shape)
    log = train_encoder(
        encoder, train, DEMO_RECIPE, device=options.device, progress=not options.quiet
    )
    say(f"trained in {log.seconds:.0f} s: loss {log.losses[0]:.3f} -> {log.losses[-1]:.3f}")
    classifier = fit_head(encoder, train, kind="prototype", batch_size=options.batch_size)
    description = Description(
        architecture="small_convnet",
        arguments=dict(DEMO_ARCHITECTURE),
        image_shape=train.image_shape,
        embedding_size=DEMO_ARCHITECTURE["embedding_size"],
        recipe={**DEMO_RECIPE.to_dict(), "weights_seed": options.seed, "data": train.name},
        version=__version__,
    )
    save_checkpoint(checkpoint, classifier, description)


def _free_name() -> Path:
    names = itertools.chain(["robustcl-demo"], (f"robustcl-demo-{n}" for n in itertools.count(2)))
    return next(Path(name) for name in names if not Path(name).exists())
