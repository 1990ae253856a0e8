"""Declare what manifest.json holds: of a run, a study, a suite or a comparison.

A field with a default may be absent, since older versions did not write it. Fields that are not
declared here are left as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from robustcl.core.errors import RunError
from robustcl.core.schema import parse
from robustcl.records.kinds import NormName

_Count = Annotated[int, Meta(ge=0)]
_Whole = Annotated[int, Meta(ge=1)]
_Length = Annotated[float, Meta(ge=0.0)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+$")]  # part of a file's name
Texts = tuple[str, ...]


@dataclass(frozen=True)
class Session:
    """State a session (see `robustcl.records.sessions`)."""

    begun: str = ""
    process: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    command: str = ""
    images: str = ""
    stages: Texts = ()


@dataclass(frozen=True)
class ClaimEntry:
    """State a certificate of a run."""

    name: str
    norm: str | Texts = ()
    guarantee: str = ""
    subject: str = ""
    claim: str = ""
    reference: str = ""


@dataclass(frozen=True)
class AttackEntry:
    """State an attack of a run."""

    name: str
    parameters: dict[str, int | float | str | bool | None] | None = None
    minimum_norm: bool = False


@dataclass(frozen=True)
class FlagEntry:
    """State what a check of the model raised (see `attacks.checks`)."""

    name: str
    sentence: str = ""
    images: tuple[_Count, ...] = ()
    rule: int | None = None


@dataclass(frozen=True)
class ReferenceEntry:
    """State the accuracy that the model is said to have."""

    name: str
    accuracy: Annotated[float, Meta(gt=0.0, le=1.0)]


@dataclass(frozen=True)
class ManifestFile:
    """State what every manifest may hold; `config` is checked by its kind."""

    schema: int
    config: dict[str, Any]
    config_hash: str
    checksum: str | None = None
    kind: Literal["multiview", "comparison"] | None = None
    suite: str | None = None
    question: str = ""
    cells: Texts = ()
    draw: str = ""
    command: str | None = None
    created: str | None = None
    versions: dict[str, str] | None = None
    device: str | None = None
    hashes: dict[str, str] | None = None
    claims: tuple[ClaimEntry, ...] | None = None
    attacks: tuple[AttackEntry, ...] | None = None
    class_names: Texts | None = None
    num_examples: _Count | None = None
    labeled: bool = True
    data_notes: Texts | None = None
    rows: tuple[_Count, ...] | None = None
    image_shape: tuple[_Whole, ...] | None = None
    seconds: _Length | None = None
    complete: bool = False
    sessions: tuple[Session, ...] | None = None
    arrays: tuple[Name, ...] | None = None
    flags: tuple[FlagEntry, ...] | None = None
    batch_size_used: _Count | None = None
    prefixes: dict[str, _Count] | None = None
    reference: ReferenceEntry | None = None
    layout: Literal["as_given", "channels_last"] | None = None

    def __post_init__(self) -> None:
        for cell in self.cells:
            parts = cell.split("/")
            if not all(parts) or {".", ".."} & set(parts) or "\0" in cell:
                raise RunError(f"field cells names {cell[:60]!r}, which is no folder of the suite")


@dataclass(frozen=True)
class RunConfig:
    """State what determines the records of a run (see `robustcl.evaluation.manifest`)."""

    norm: NormName = "l2"
    methods: Texts | None = None
    attacks: Texts | None = None
    eps: tuple[_Length, ...] | None = None
    seed: int | None = None
    batch_size: _Whole | None = None
    data: str | None = None
    num_examples: _Count | None = None
    data_hash: str | None = None
    checkpoint_hash: str | None = None
    rows: str | None = None
    screened: bool = False
    one_budget: bool = False
    test_certificates: bool = False
    defaults: Texts | None = None


@dataclass(frozen=True)
class StudyConfig:
    """State what determines a study (see `robustcl.studies.multiview.plan`)."""

    views: str
    norm: NormName
    eps: _Length
    data: str
    num_examples: _Count
    num_attacked: _Count


@dataclass(frozen=True)
class ComparisonConfig:
    """State what a comparison is of: the hash of each run's configuration, by label."""

    runs: dict[str, str]


CONFIGS = {None: RunConfig, "multiview": StudyConfig, "comparison": ComparisonConfig}


def check_manifest(content: Mapping[str, Any], *, what: str, cure: str) -> None:
    """Refuse a manifest whose fields are not as declared.

    Args:
        content: As JSON gives it.
        what: The file, for the message.
        cure: What the user can do.

    Raises:
        RunError: Naming the field.
    """
    terms: dict[str, Any] = {"error": RunError, "cure": cure, "strange": True}
    found = parse(ManifestFile, content, what=what, **terms)
    if found.suite is None:
        parse(CONFIGS[found.kind], found.config, what=f"'config' in {what}", **terms)
