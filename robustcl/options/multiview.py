"""State the options of `robustcl multiview`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from robustcl.core.choices import Norm, Split
from robustcl.options.model_fields import ModelFields
from robustcl.options.shared import LabeledDataOptions


@dataclass(frozen=True, kw_only=True)
class MultiviewOptions(ModelFields, LabeledDataOptions):
    """Does it help to look many times? Compare multi-view inference with the single view.

    Temperatures are fitted on images of the same split that are not tested, after the views were
    put together. Test images and held-out ones are drawn by --seed, with the same share of every
    class.

    Args:
        checkpoint: A checkpoint with a head (see `robustcl probe`), or a weight file of a
            classifier.
        out: The folder of the study: new, empty, or that of a study.
        split: Split of the data that is tested and held out from: not the one trained on.
        views: shift, crop, noise or training, with options as in shift:pixels=2,flip=false.
        count: Numbers of views, ascending; the largest is attacked.
        aggregate: embedding, score, max, vote, confidence; the sentences are about the first.
        norm: l2, linf or l1.
        eps: Budget of the attacks; 0.25 in L2, 8/255 in Linf and 12 in L1 by default.
        attacked: Images that are attacked: the first of those tested.
        attack: The attack on every model; points found against one are tried on all.
        held_out: Images on which temperatures are fitted; by default 500, or a third of smaller
            data.
        held_out_data: Other data to hold out from; by default that of --data.
        noise: Standard deviation of the noise on the corrupted images.
        ensemble: Checkpoints whose mean score is the compute-matched baseline, as A,B,C.
        certificates: Certify as well.
        draws: Attack a model with fresh views at every call as well, by the average over so many
            draws, which multiplies the cost of an attack; 20 or more by rule, 0 for none.
        resume: Go on with the study in --out; stages that are damaged are computed again.
        mixed_versions: Go on although robustcl or torch is another version; both are recorded.
        json: Write one JSON object on stdout.
        quiet: Say less.
    """

    checkpoint: tyro.conf.Positional[Path]
    out: Path
    split: Split = "test"
    views: str = "shift"
    count: str = "1,2,4,8"
    aggregate: str = "embedding,score,vote"
    norm: Norm = "l2"
    eps: str | None = None
    attacked: int = 200
    attack: str = "every_view:steps=20,restarts=2"
    held_out: int | None = None
    held_out_data: str | None = None
    noise: float = 0.1
    ensemble: str | None = None
    certificates: bool = True
    draws: int = 0
    resume: bool = False
    mixed_versions: bool = False
    json: bool = False
    quiet: bool = False
