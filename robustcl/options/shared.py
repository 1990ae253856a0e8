"""State the options that commands share."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from robustcl.core.choices import Aggregate, Norm, Split
from robustcl.options.model_fields import ModelFields


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Say which data, and where to compute.

    Args:
        data: A folder or file of images (class folders, with or without train and test; a flat
            folder with a table of labels; parquet; .npz; .tar of WebDataset; saved by the datasets
            library), or digits, cifar10, cifar100, mnist, fashion-mnist, svhn, stl10. Options
            follow a comma, as in PATH,size=224,resize=256,interpolation=bicubic, color=rgb or gray,
            exif=apply, labels=FILE, split=all.
        data_root: Folder of torchvision's data sets.
        download: Download what is missing.
        strict: Refuse data with an image that cannot be decoded, which is left out otherwise.
        limit: Use N images only, drawn by --seed with the same share of every class; a larger N
            keeps those of a smaller one.
        device: cpu, cuda, cuda:1, ...
        batch_size: Images per model call; halved when memory runs out.
        seed: Seed of splits, of the draw of --limit, and of noise.
    """

    data: str
    data_root: Path | None = None
    download: bool = False
    strict: bool = False
    limit: int | None = None
    device: str = "cpu"
    batch_size: int = 128
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class LabeledDataOptions(DataOptions):
    """Say how the classes of data are matched with those of a checkpoint.

    Args:
        classes: names (a class is the one of the same name; data with another class is refused),
            known (likewise, but images of other classes are left out), or positions (label k is
            the class at position k, whatever its name). Or a text file with one class name per
            line, which names the classes of a model that has numbers for them.
    """

    classes: str = "names"


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(ModelFields, LabeledDataOptions):
    """Say which checkpoint is measured, and where the records go.

    Args:
        checkpoint: The model: a checkpoint of robustcl, a weight file (.safetensors, or .pt, .pth,
            .ckpt, .bin without code), a local folder of transformers, timm or open_clip, or
            FILE.py:factory or package.module:factory, whose code is run.
        head: native insists on the model's own classification layer, which is the default where it
            has one. prototype, linear, lipschitz_linear or knn fits one on up to 5,000 images of
            the training split; `robustcl probe` does so with more options, and keeps it, so that
            runs of it can be gone on with.
        prototypes: A file of text vectors as the head (`robustcl prompts` writes one): .npy (K, d)
            or .safetensors. For a folder of CLIP, --classes FILE alone does both.
        reference: What is known of the model, to compare it with: an accuracy on this data, as in
            0.9178 or 91.78%, or a .npz file with images in [0, 1] and their logits. An accuracy in
            the weight file itself is used where nothing is given.
        out: The run folder: new, empty, or that of a run.
        split: Split of the data: train or test.
        norm: l2, linf or l1; radii are in pixel units of images in [0, 1].
        views: Measure multi-view inference: shift, crop, noise or training, with options as in
            shift:pixels=2,flip=false or noise:sigma=0.25; none by default.
        count: Number of views; --seed draws them.
        aggregate: embedding, score, max, vote or confidence.
        resume: Go on with the run in --out; what is damaged there is measured again.
        mixed_versions: Go on although robustcl or torch is another version; both are recorded.
        plan: Predict from two batches how long so many processes would take, and run nothing.
        json: Write one JSON object on stdout.
        quiet: No progress bars.
    """

    checkpoint: tyro.conf.Positional[Path]
    out: Path
    split: Split = "test"
    norm: Norm = "l2"
    views: str | None = None
    count: int = 8
    aggregate: Aggregate = "score"
    resume: bool = False
    mixed_versions: bool = False
    plan: int | None = None
    head: str | None = None
    prototypes: Path | None = None
    reference: str | None = None
    json: bool = False
    quiet: bool = False
