"""Load the models that a command names."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustcl.certify.bounds.networks import network_lipschitz_bound
from robustcl.core.choices import MATCHINGS, Aggregate, Matching
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.core.files import parse_json, read_text
from robustcl.core.schema import objection_to_values
from robustcl.core.terminal import printable, say
from robustcl.data.class_names import same_classes, some_names
from robustcl.data.views import ViewOptions, default_views
from robustcl.models.architectures import check_image_size
from robustcl.models.checkpoint import Loaded
from robustcl.models.description import Description
from robustcl.models.factory import approve
from robustcl.models.inference_views import draw_views
from robustcl.models.multi_view import MultiView
from robustcl.models.normalization import stated_normalization
from robustcl.models.sources.opening import open_model
from robustcl.models.sources.request import ModelRequest
from robustcl.models.stored_file import file_hash
from robustcl.options.model_fields import ModelFields
from robustcl.records.ranks import rank


def load_and_tell(model: str | Path, request: ModelRequest | None = None) -> Loaded:
    """Open a model; the first process writes what was found out about it on stderr.

    Args:
        model: Where it is, see `open_model`.
        request: What the user says about it.

    Returns:
        What is in it.
    """
    loaded = open_model(model, request)
    tell_model(loaded)
    return loaded


def tell_model(loaded: Loaded) -> None:
    """Write what was found out about a model on stderr; of several processes the first does.

    Args:
        loaded: The model.
    """
    if rank() == 0:
        for fact in loaded.facts:
            say(fact)
        for note in loaded.notes:
            say(f"note: {note}")


def approve_again(loaded: Loaded, checkpoint: Path) -> None:
    """Keep that the user has named the code behind a checkpoint that was made with it just now.

    Args:
        loaded: The model that it was made from.
        checkpoint: The new file.
    """
    if loaded.factory is not None:
        approve(loaded.factory, file_hash(checkpoint))


def model_request(options: ModelFields, *, class_names: Sequence[str] = ()) -> ModelRequest:
    """Read what the options say about a model.

    Args:
        options: The options.
        class_names: Of its classes.

    Returns:
        The request; the network's own head is wanted where `--head native` is given, and is not
        where another head is.

    Raises:
        InputError: When an option is not usable.
    """
    shape = None if options.input_size is None else parse_size(options.input_size)
    head = getattr(options, "head", None)
    return ModelRequest(
        arch=options.arch,
        arguments=read_arguments(options.arguments),
        network=options.network,
        image_shape=shape,
        normalization=stated_normalization(
            options.mean, options.std, channels=shape[0] if shape else 3
        ),
        own_head=None if head is None else head == "native",
        class_names=tuple(class_names),
    )


MOST_NAMES = 2**24  # bytes of a file of class names
_SIDE = re.compile(r"[1-9][0-9]{0,8}")


def read_arguments(text: str) -> dict[str, Any]:
    """Read keyword arguments in JSON.

    Args:
        text: An object such as {"channels": 1}.

    Returns:
        The arguments.

    Raises:
        InputError: When the text is no JSON object.
    """
    try:
        found = parse_json(text)
    except ValueError as error:
        raise InputError(f"--arguments {text[:200]!r} {error}") from error
    if not isinstance(found, dict):
        raise InputError(f'--arguments {text[:200]!r} is no object; write {{"channels": 1}}')
    wrong = objection_to_values(found)
    if wrong:
        raise InputError(f'--arguments: {printable(wrong)}; write {{"channels": 1}}')
    return found


def parse_size(text: str) -> tuple[int, int, int]:
    """Read 224 or 3x224x224.

    Args:
        text: The size.

    Returns:
        (C, H, W).

    Raises:
        InputError: When the text is neither.
    """
    parts = text.lower().split("x")
    right = all(_SIDE.fullmatch(part) for part in parts) and len(parts) in (1, 3)
    if not right:
        raise InputError(f"cannot read --input-size {text[:200]!r}; write 224 or 3x224x224")
    numbers = [int(part) for part in parts]
    shape = (
        (3, numbers[0], numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])
    )
    check_image_size(shape)
    return shape


def names_file(classes: str) -> tuple[str, ...]:
    """Read the class names that `--classes FILE` gives.

    Args:
        classes: The option: a word that says how classes are matched, or a file.

    Returns:
        One name per line of the file; none for a word.

    Raises:
        InputError: When it is neither, or a name is empty or stands twice.
    """
    if classes in MATCHINGS:
        return ()
    place = Path(classes)
    if not place.is_file():
        raise InputError(
            f"--classes {classes!r} is none of {', '.join(MATCHINGS)}, and no file of class names"
        )
    names = [line.strip() for line in read_text(place, most=MOST_NAMES).splitlines()]
    while names and not names[-1]:
        names.pop()
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not names or twice or "" in names:
        what = "an empty line" if "" in names else f"the name {twice[0]!r} twice" if twice else "no"
        raise InputError(
            f"{classes!r} has {what} class name; write one name per line"
            if not names
            else f"{classes!r} has {what}; write one name per line"
        )
    return tuple(names)


def matching_of(classes: str) -> Matching:
    """Say how classes are matched.

    Args:
        classes: The option `--classes`.

    Returns:
        The word, or 'names' where the option names a file.
    """
    return classes if classes in MATCHINGS else "names"


class _Mean(nn.Module):
    # The mean score of several classifiers.

    def __init__(self, members: list[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([member(images) for member in self.members]).mean(dim=0)


def load_ensemble(
    members: list[Path], *, request: ModelRequest, device: str, classes: Sequence[str]
) -> Classifier | None:
    """Load the compute-matched baseline.

    Args:
        members: Checkpoints with a head.
        request: What the user says about them.
        device: Where to compute.
        classes: The class names of the model that the mean is compared with; the members have the
            same, in the same order.

    Returns:
        The classifier of their mean score; None without members.

    Raises:
        InputError: When one has no head, or they do not fit together.
    """
    loaded = [load_and_tell(place, request).classifier for place in members]
    if not loaded:
        return None
    models = [model for model in loaded if model is not None]
    if len(models) < len(loaded) or len({(m.image_shape, m.num_classes) for m in models}) > 1:
        raise InputError(
            f"--ensemble {','.join(map(str, members))}: all need heads, images and classes alike"
        )
    other = next((m for m in models if not same_classes(m.class_names, classes)), None)
    if other is not None:
        raise InputError(
            f"--ensemble {','.join(map(str, members))}: one has the classes "
            f"{some_names(other.class_names)}, the checkpoint {some_names(classes)}; probe all on "
            "the same data"
        )
    for place, model in zip(members, models, strict=True):
        if tuple(model.class_names) != tuple(classes):
            own = some_names(model.class_names)
            say(f"note: classes of {str(place)!r} ({own}) are matched by position, not by name")
    mean = _Mean([model.to(device) for model in models]).eval()
    return Classifier.from_scores(
        mean, image_shape=models[0].image_shape, class_names=classes
    ).to(device)  # fmt: skip


@dataclass(frozen=True)
class Views:
    """Say which views.

    Args:
        family: As in `draw_views`.
        count: Number of views.
        aggregate: As in `MultiView`.
        seed: Seed of the draw.
    """

    family: str
    count: int
    aggregate: Aggregate
    seed: int

    def __str__(self) -> str:
        """Name the views in a manifest.

        Returns:
            One line.
        """
        return f"{self.family} x {self.count}, {self.aggregate}, seed {self.seed}"


def with_views(
    classifier: Classifier, views: Views, description: Description, data: str
) -> MultiView:
    """Make the multi-view model of a checkpoint.

    Args:
        classifier: Of the checkpoint.
        views: Which views.
        description: Of the checkpoint.
        data: Name of the data.

    Returns:
        The model.
    """
    drawn = draw_views(
        views.family,
        views.count,
        image_shape=classifier.image_shape,
        seed=views.seed,
        training=trained_views(description, data),
    )
    return MultiView(classifier, drawn, views.aggregate)


def trained_views(description: Description, data: str) -> ViewOptions:
    """Say how an encoder's training views were drawn.

    Args:
        description: Of its checkpoint.
        data: Name of the data, by which views are chosen where the checkpoint says nothing.

    Returns:
        The options.
    """
    said = description.recipe.get("views")
    if not isinstance(said, Mapping):
        return default_views(data.replace(":", "/").split(",")[0], description.image_shape)
    values: dict[str, Any] = dict(said)
    ranges = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return ViewOptions(**{**values, **ranges})


def checked_constant(encoder: Encoder, description: Description) -> float | None:
    """Compute the constant that certificates use, and refuse a claim that is smaller.

    Args:
        encoder: The encoder.
        description: What its checkpoint claims.

    Returns:
        The guaranteed L2 bound of the raw embedding, in pixel units; None where nothing is
        claimed, and then nothing is computed.

    Raises:
        InputError: When the claim is below the bound.
    """
    claimed = description.lipschitz_constant
    if claimed is None:
        return None
    computed = network_lipschitz_bound(encoder).total
    if not claimed >= computed:
        raise InputError(
            f"the checkpoint claims a Lipschitz constant of {claimed:.9g}, but the product of its "
            f"layers' guaranteed norms is {computed:.9g}; its weights were changed, or an older "
            "program rounded them: train it again with --robust lipschitz, or convert it anew, "
            "which claims nothing"
        )
    return computed


def constants_text(claimed: float, computed: float) -> str:
    """Say both constants.

    Args:
        claimed: By the checkpoint.
        computed: The guaranteed bound.

    Returns:
        A line of text.
    """
    return (
        f"Lipschitz constant of the embedding in L2: claimed {claimed:g}, computed from guaranteed "
        f"layer norms {computed:.9f}; certificates use the computed one"
    )
