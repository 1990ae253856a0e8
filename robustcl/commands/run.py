"""Certify and attack a checkpoint."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import tyro

from robustcl.audit import DEFAULT_EPS, Audit
from robustcl.checkpoint import load_checkpoint
from robustcl.commands.finish import finish, parse_gate
from robustcl.commands.options import DataOptions, read_data, say
from robustcl.data import Split
from robustcl.errors import InputError
from robustcl.evaluate import evaluate
from robustcl.specification import parse_number, split_specifications
from robustcl.threat import Norm


@dataclass(frozen=True, kw_only=True)
class RunOptions(DataOptions):
    """Certify and attack a checkpoint, and write records and a report.

    Args:
        checkpoint: The .safetensors file, with a head (see `robustcl probe`).
        out: The run folder.
        split: Split of the data: train or test.
        norm: l2 or linf; radii are in pixel units of images in [0, 1].
        methods: Certificates, as in product,smoothing:sigma=.25,n=10000 ('certify methods' lists
            them); 'none' for none.
        attack: Attacks, as in pgd:steps=100,autoattack; 'none' for none.
        eps: Ascending budgets of the attacks, as in 0.25,0.5 or 4/255,8/255.
        resume: Go on with the run in --out.
        require: Gates, as in "certified_accuracy@0.25>=0.5"; exit code 3 when one is missed.
        arch: Needed only for a checkpoint made from package.module:factory.
        json: Write one JSON object on stdout.
        quiet: No progress bars.
    """

    checkpoint: tyro.conf.Positional[Path]
    out: Path
    split: Split = "test"
    norm: Norm = "l2"
    methods: str = "product,smoothing:sigma=.25,n=1000,first_order"
    attack: str = "pgd"
    eps: str | None = None
    resume: bool = False
    require: tuple[str, ...] = ()
    arch: str | None = None
    json: bool = False
    quiet: bool = False


def run(options: RunOptions) -> int:
    """Run `certify run`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        InputError: When the checkpoint has no head.
    """
    for gate in options.require:
        parse_gate(gate)
    audit = make_audit(options)
    loaded = load_checkpoint(options.checkpoint, arch=options.arch)
    if loaded.classifier is None:
        raise InputError(
            f"{str(options.checkpoint)!r} has no head; fit one by: robustcl probe "
            f"{options.checkpoint} --data {options.data} --out CKPT"
        )
    dataset = read_data(options, split=options.split)
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    try:
        evaluate(
            loaded.classifier,
            dataset,
            audit,
            options.out,
            checkpoint_hash=loaded.hash,
            command=command,
            device=options.device,
            resume=options.resume,
            progress=not options.quiet,
        )
    except KeyboardInterrupt:
        again = command if options.resume else f"{command} --resume"
        say(f"interrupted; the records in {options.out} are whole. Go on by: {again}")
        return 130
    return finish(options.out, json=options.json, require=options.require)


def make_audit(options: RunOptions) -> Audit:
    """Read methods, attacks and budgets.

    Args:
        options: The options.

    Returns:
        The audit.
    """
    eps = DEFAULT_EPS[options.norm]
    if options.eps is not None:
        eps = tuple(parse_number(part) for part in options.eps.split(","))
    return Audit(
        norm=cast(Norm, options.norm),
        methods=() if options.methods == "none" else split_specifications(options.methods),
        attacks=() if options.attack == "none" else split_specifications(options.attack),
        eps=eps,
        seed=options.seed,
        batch_size=options.batch_size,
    )
