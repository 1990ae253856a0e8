"""Read suites."""

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from robustcl import attacks, certify
from robustcl.core.budgets import read_budgets
from robustcl.core.choices import Matching, Norm
from robustcl.core.errors import InputError
from robustcl.core.files import read_toml
from robustcl.core.listing import LISTING, MARKS, PARTS, TOPS, objection_to_name
from robustcl.core.schema import parse
from robustcl.core.specification import choose
from robustcl.core.threat import check_norm
from robustcl.data.corruptions import CORRUPTIONS
from robustcl.declarations.heads import FITTED
from robustcl.evaluation.config import DEFAULT_EPS
from robustcl.options.recipe_file import check_types
from robustcl.options.train import TrainOptions
from robustcl.studies.metrics import check_metric, is_training_metric
from robustcl.studies.options import STUDY, TRAINING, check_study, training_options
from robustcl.studies.peers import PEERS

FOREIGN = "torchattacks"


def named_attack(text: str) -> str:
    """Return an attack's name in the table of attacks.

    Where torchattacks is absent, what a suite asks of it is left out with a message when the suite
    runs, so it is not an error to name it.

    Args:
        text: As in 'pgd:steps=100' or 'torchattacks:CW'.

    Returns:
        The name; options are checked where the attack is there.
    """
    if text.split(":")[0] == FOREIGN and importlib.util.find_spec(FOREIGN) is None:
        return FOREIGN
    return attacks.parse_attack(text).name


_Whole = Annotated[int, Meta(ge=1)]
Methods = tuple[str, ...] | dict[Norm, tuple[str, ...]]


@dataclass(frozen=True)
class SuiteFile:
    """State a suite as its file does (see `robustcl.studies.suite.Suite`).

    Args:
        question: As in `Suite`; likewise all that is not named here.
        train: Options of `robustcl train` that all models share.
        models: Options of each by its name (see `_ModelEntry`).
        certificates: By norm, or for every norm.
        attacks: Likewise.
        eps: By norm; numbers, or texts such as '8/255'.
    """

    question: Annotated[str, Meta(min_length=1)]
    train: dict[str, Any] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    data: tuple[str, ...] = ("digits",)
    seeds: tuple[Annotated[int, Meta(ge=0)], ...] = (0,)
    norms: tuple[Norm, ...] = ("l2",)
    certificates: Methods = ()
    attacks: Methods = ()
    eps: dict[Norm, tuple[float | str, ...]] = field(default_factory=dict)
    corruptions: tuple[str, ...] = ()
    severities: tuple[Annotated[int, Meta(ge=1, le=5)], ...] = (1, 3, 5)
    corrupted_folder: str = ""
    multiview: dict[str, Any] = field(default_factory=dict)
    peers: tuple[str, ...] = ()
    repeats: _Whole = 7
    limit: _Whole | None = None
    batch_size: _Whole = 128
    classes: Matching = "names"


@dataclass(frozen=True)
class _ModelEntry:
    """State what the table of a model holds besides options of `robustcl train` (see `Model`).

    Args:
        checkpoint: A file; '' where the model is trained.
        head: Head that is fitted anew; '' for none.
    """

    checkpoint: str = ""
    head: str = ""


SUITES = Path(__file__).with_name("suites")
LONGEST_NAME = 100  # bytes
RESERVED = {  # at the top of a suite's folder
    *(LISTING, *MARKS, *PARTS, *TOPS, "peers", "manifest.damaged.json", "files.damaged.json"),
}


@dataclass(frozen=True)
class Model:
    """State one model of a suite.

    Args:
        name: Its name in tables.
        checkpoint: A file; '' where the model is trained.
        head: Head that is fitted anew on all labels; '' for the one that training fits.
        training: Options of `robustcl train` by name.
    """

    name: str
    checkpoint: str = ""
    head: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """State a suite in full.

    Args:
        name: Its name.
        question: What it answers, one sentence.
        models: What is measured.
        data: As for `robustcl train --data`; models are trained on its training split.
        seeds: One run each, of training, splits and noise.
        norms: One run folder each.
        certificates: By norm, as for `certify run --methods`.
        attacks: By norm, as for `certify run --attack`.
        eps: By norm, ascending budgets.
        metrics: Columns of the table; they decide what is run.
        corruptions: Names in `robustcl.data.corruptions`; of a CIFAR-10-C folder all are taken.
        severities: From 1 to 5.
        corrupted_folder: A folder of CIFAR-10-C; '' corrupts the images here.
        multiview: Options of `robustcl multiview` by name, for metrics of a study.
        peers: Other packages, side by side with this one.
        repeats: Of each side of a peer.
        limit: Test images.
        batch_size: Images per model call.
        classes: How the classes of the data are matched with those of a model, see `match_labels`.
    """

    name: str
    question: str
    models: tuple[Model, ...]
    metrics: tuple[str, ...]
    data: tuple[str, ...] = ("digits",)
    seeds: tuple[int, ...] = (0,)
    norms: tuple[Norm, ...] = ("l2",)
    certificates: Mapping[Norm, tuple[str, ...]] = field(default_factory=dict)
    attacks: Mapping[Norm, tuple[str, ...]] = field(default_factory=dict)
    eps: Mapping[Norm, tuple[float, ...]] = field(default_factory=dict)
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = (1, 3, 5)
    corrupted_folder: str = ""
    multiview: Mapping[str, Any] = field(default_factory=dict)
    peers: tuple[str, ...] = ()
    repeats: int = 7
    limit: int | None = None
    batch_size: int = 128
    classes: Matching = "names"

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved suite as plain values, for its manifest."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        if self.classes == "names":
            del plain["classes"]  # as before there was such a key: those suites can go on
        models = {m.name: {"checkpoint": m.checkpoint, "head": m.head, **m.training}
                  for m in self.models}  # fmt: skip
        texts = (text for methods in self.certificates.values() for text in methods)
        defaults = certify.changed_defaults(texts)
        return {**plain, "models": models, **({"defaults": defaults} if defaults else {})}


LISTS = ("data", "seeds", "norms", "metrics", "corruptions", "severities", "peers")


def suite_names() -> tuple[str, ...]:
    """List the suites that are shipped.

    Returns:
        Their names, sorted.
    """
    return tuple(sorted(place.stem for place in SUITES.glob("*.toml")))


def load_suite(name: str) -> Suite:
    """Read a suite that is shipped, or one of the user's.

    Args:
        name: A name in `suite_names`, or a file ending in .toml.

    Returns:
        The suite.

    Raises:
        InputError: When there is none of that name, or the file is not TOML or not a suite.
    """
    place = Path(name)
    if place.suffix != ".toml":
        place = SUITES / f"{choose(name, suite_names(), what='suite')}.toml"
    try:
        content = read_toml(place)
    except ValueError as error:
        raise InputError(
            f"{name!r} is not a readable TOML file: it {error}; give a suite, or one of "
            f"{', '.join(suite_names())}"
        ) from error
    return read_suite(place.stem, content)


def read_suite(name: str, content: Mapping[str, Any]) -> Suite:
    """Check every key and value of a suite.

    Args:
        name: The suite's name.
        content: As TOML gives it.

    Returns:
        The suite.

    Raises:
        InputError: When a key, a method, an attack, a metric, a peer or an option is unknown, or
            something needed is missing.
    """
    given = parse(
        SuiteFile, content, what=f"suite {name!r}", error=InputError, cure="mend its TOML file"
    )
    for key in LISTS:
        _distinct(getattr(given, key), key)
    _known(given.multiview, STUDY, f"[multiview] of suite {name!r}")
    _known(given.train, TRAINING, f"[train] of suite {name!r}")
    same = ("question", *LISTS, "limit", "repeats", "batch_size", "corrupted_folder")
    suite = Suite(
        name=name,
        models=tuple(_model(key, value, given.train) for key, value in given.models.items()),
        multiview=given.multiview,
        classes=given.classes,
        **{key: getattr(given, key) for key in same},
    )
    _check_names(suite)
    norms = suite.norms
    suite = replace(
        suite,
        certificates=_by_norm(given.certificates, norms, "certificates"),
        attacks=_by_norm(given.attacks, norms, "attacks"),
        eps=_eps(given.eps, norms),
    )
    _check_methods(suite)
    check_study(suite.multiview, suite.eps, suite.metrics)
    return suite


def _model(name: str, entries: Mapping[str, Any], shared: Mapping[str, Any]) -> Model:
    where = f"[models.{name}]"
    objection = objection_to_name(name, longest=LONGEST_NAME, reserved=RESERVED)
    if objection is None and not all(sign.isalnum() or sign in "-_.+" for sign in name):
        objection = "has a sign that is neither a letter nor a digit"
    if objection is not None:
        raise InputError(
            f"the model {name!r} cannot name a folder: it {objection}; use letters, digits, - and _"
        )
    _known(entries, TRAINING | {"checkpoint", "head"}, where)
    own = {key: value for key, value in entries.items() if key not in ("checkpoint", "head")}
    plain = parse(
        _ModelEntry, entries, what=where, error=InputError, cure="mend the suite", strange=True
    )
    if plain.head and plain.head not in FITTED:
        raise InputError(f"{where}: unknown head {plain.head!r}; use {', '.join(FITTED)}")
    if plain.checkpoint and set(own) - {"arch"}:
        raise InputError(f"{where} has a checkpoint and is trained ({', '.join(own)}); keep one")
    training = own if plain.checkpoint else {**shared, **own}
    if plain.checkpoint:
        check_types(TrainOptions, training, where)
    else:
        training_options(training, data="digits", out=Path("model.safetensors"))
    return Model(name, plain.checkpoint, plain.head, training)


def _check_names(suite: Suite) -> None:
    if not suite.models or not (suite.metrics or suite.peers):
        raise InputError(f"suite {suite.name!r} has no models, or neither metrics nor peers")
    if not suite.data or not suite.seeds or not suite.norms:
        raise InputError(f"suite {suite.name!r} has an empty list of data, seeds or norms")
    same = [model.name.casefold() for model in suite.models]
    twice = [model.name for model in suite.models if same.count(model.name.casefold()) > 1]
    if twice:
        raise InputError(f"models {' and '.join(map(repr, twice))} differ in case only; rename one")
    for norm in suite.norms:
        check_norm(norm)
    for metric in suite.metrics:
        check_metric(metric)
    for peer in suite.peers:
        choose(peer, PEERS, what="peer")
    for name in suite.corruptions:
        choose(name, CORRUPTIONS, what="corruption")
    trained = [model.name for model in suite.models if not model.checkpoint]
    wanted = [metric for metric in suite.metrics if is_training_metric(metric)]
    if wanted and not trained:
        raise InputError(f"metric {wanted[0]!r} is about training, but every model is a checkpoint")


def _check_methods(suite: Suite) -> None:
    for norm in suite.norms:
        for text in suite.certificates[norm]:
            _treats(text, certify.METHODS[certify.parse_method(text).name].norms, norm)
        for text in suite.attacks[norm]:
            _treats(text, attacks.ATTACKS[named_attack(text)].norms, norm)


def _treats(text: str, norms: Iterable[Norm], norm: Norm) -> None:
    if norm not in norms:
        raise InputError(
            f"{text!r} is not for the norm {norm!r}; list it under the norm it is for, as in "
            f"{next(iter(norms))} = [{text!r}]"
        )


def _by_norm(value: Methods, norms: tuple[Norm, ...], key: str) -> dict[Norm, tuple[str, ...]]:
    found = value if isinstance(value, dict) else dict.fromkeys(norms, value)
    for texts in found.values():
        _distinct(texts, key)
    return {norm: found.get(norm, ()) for norm in norms}


def _eps(
    value: Mapping[Norm, tuple[float | str, ...]], norms: tuple[Norm, ...]
) -> dict[Norm, tuple[float, ...]]:
    for budgets in value.values():
        _distinct(budgets, "eps")
    return {
        norm: read_budgets(",".join(map(str, value[norm])), norm)
        if norm in value
        else DEFAULT_EPS[norm]
        for norm in norms
    }


def _known(entries: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in entries:
        if key not in known:
            raise InputError(f"unknown key {key!r} in {where}; known: {', '.join(sorted(known))}")


def _distinct(values: tuple[Any, ...], key: str) -> None:
    if len(set(map(str, values))) < len(values):
        raise InputError(f"{key} = {list(values)} names something twice")
