"""`robustcl.audit` takes models, data and methods as people have them."""

import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as TorchDataset

import robustcl
from robustcl import attacks, certify
from robustcl.cli.main import certify as certify_command
from robustcl.core.errors import InputError
from robustcl.workflows.own_methods import own_methods
from tests.cli.random_checkpoint import random_checkpoint

SHAPE = (1, 4, 4)
Pair = namedtuple("Pair", "logits hidden")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def some(count: int = 12) -> tuple[Tensor, Tensor]:
    images = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return images, network()(images).argmax(1)


class Returning(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner, self.kind = network(), kind

    def forward(self, images: Tensor) -> object:
        scores = self.inner(images)
        return {
            "dictionary": {"logits": scores, "hidden": images},
            "tuple": (images, scores),
            "named tuple": Pair(scores, images),
        }[self.kind]


QUICK = {"methods": "product", "attacks": "pgd:steps=5", "eps": (0.1,)}


@pytest.mark.parametrize(
    ("kind", "output"), [("dictionary", "logits"), ("tuple", 1), ("named tuple", "logits")]
)
def test_one_of_several_outputs(kind: str, output: str | int) -> None:
    plain = robustcl.audit(network(), some(), **QUICK).summary
    found = robustcl.audit(Returning(kind), some(), output=output, **QUICK).summary
    assert found.clean_accuracy == 1.0
    assert found.median_certified_radius == pytest.approx(plain.median_certified_radius)
    with pytest.raises(InputError, match=r"without 'scores'|without 7"):
        robustcl.audit(Returning(kind), some(), output="scores" if output != 1 else 7, **QUICK)


class Folder(TorchDataset):
    classes = ("a", "b", "c")

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = some()
        return images[index], int(labels[index])


def test_data_of_torch() -> None:
    images, labels = some()
    wanted = robustcl.audit(network(), (images, labels), **QUICK).frame()
    for data in (
        TensorDataset(images, labels),
        DataLoader(TensorDataset(images, labels), batch_size=5),
        Folder(),
        (images.numpy(), labels.numpy()),
        (images, labels.tolist()),
    ):
        found = robustcl.audit(network(), data, **QUICK).frame()
        assert np.allclose(found["certified"], wanted["certified"])
    with pytest.raises(InputError, match="one size"):
        robustcl.audit(network(), Uneven(), **QUICK)


class Uneven(Folder):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.rand(1, 4 + index % 2, 4), 0


def test_attacks_and_certificates_of_the_caller() -> None:
    def corner(objective, images, threat, *, seeds):
        del seeds
        points = threat.project(images, images + 1.0)
        return attacks.Candidates(points, torch.zeros(len(images)).long())

    def tenth(classifier, images, *, norm):
        return certify.product(classifier, images, norm=norm)

    own = certify.Method(
        name="tenth", norms=("l2",), guarantee="deterministic", subject="model", claim="a tenth",
        reference="", home="", function=tenth, prepare=None,
    )  # fmt: skip
    found = robustcl.audit(network(), some(), methods=("product", own),
                           attacks=("pgd:steps=5", corner), eps=(0.1,))  # fmt: skip
    assert set(found.summary.by_method) == {"product", "tenth"}
    assert set(found.summary.by_attack) == {"pgd:steps=5", "corner"}
    assert not found.summary.violations
    assert "corner" not in attacks.ATTACKS and "tenth" not in certify.METHODS


def test_a_certificate_of_the_caller_that_lies_is_a_violation() -> None:
    from dataclasses import replace

    def lying(classifier, images, *, norm):
        claim = certify.product(classifier, images, norm=norm)
        return replace(claim, radius=claim.radius * 0 + 10.0)

    own = certify.Method(
        name="lying", norms=("l2",), guarantee="deterministic", subject="model", claim="",
        reference="", home="", function=lying, prepare=None,
    )  # fmt: skip
    found = robustcl.audit(network(), some(), methods=(own,), attacks="pgd:steps=20", eps=(2.0,))
    assert found.summary.violations


@pytest.mark.parametrize("name", ["pgd", ""])
def test_names_of_the_caller_are_their_own(name: str) -> None:
    def attack(objective, images, threat, *, seeds):
        raise AssertionError

    attack.__name__ = name
    with pytest.raises(InputError, match=r"another name|no name"), own_methods((), (attack,)):
        pass
    assert "" not in attacks.ATTACKS and attacks.ATTACKS["pgd"].function is not attack


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["script", "trace", "export"])
def test_programs_are_black_boxes(kind: str) -> None:
    model, images = network(), some()[0]
    program = {
        "script": lambda: torch.jit.script(model),
        "trace": lambda: torch.jit.trace(model, images[:2]),
        "export": lambda: torch.export.export(
            model, (images[:2],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
        ),
    }[kind]()
    found = robustcl.audit(program, some(6), attacks="pgd:steps=20", eps=(3.0,)).summary
    assert set(found.by_method) == {"smoothing:sigma=.25,n=1000"}
    assert found.clean_accuracy == 1.0 and found.by_attack["pgd:steps=20"]["found"] > 0


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_types_and_inference_mode(kind: torch.dtype) -> None:
    model = network().to(kind)
    with torch.inference_mode():
        found = robustcl.audit(model, some(6), methods="smoothing:n=100", attacks="pgd:steps=5")
    assert found.summary.n == 6


def test_minutes(tmp_path: Path) -> None:
    begun = time.monotonic()
    found = robustcl.audit(network(), some(40), minutes=0.1, out=tmp_path / "run")
    assert time.monotonic() - begun < 60
    assert len(found.summary.by_method) == 1 and found.summary.n == 40
    for minutes in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="out of range"):
            robustcl.audit(network(), some(), minutes=minutes)


def test_files_and_folders_of_others(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "w.pth")
    with pytest.raises(robustcl.CheckpointError, match="stack:relu"):
        robustcl.load(tmp_path / "w.pth")
    model = robustcl.load(tmp_path / "w.pth", arch="stack:relu")
    assert torch.equal(model(some()[0]), network()(some()[0]))


def test_l1_needs_no_option(tmp_path: Path, capsys) -> None:
    found = robustcl.audit(network(), some(), norm="l1", limit=4)
    assert set(found.summary.by_method) == {"product", "smoothing:sigma=.25,n=1000"}
    checkpoint, data = random_checkpoint(tmp_path, count=20)
    words = ["run", str(checkpoint), "--data", data, "--norm", "l1", "--limit", "4", "--quiet"]
    assert certify_command([*words, "--out", str(tmp_path / "run")]) == 0
    more = ["--minutes", "0.2", "--out", str(tmp_path / "minutes")]
    assert certify_command([*words, *more]) == 0, capsys.readouterr().err


class Counting(TorchDataset):
    """A large data set of which only the images that are wanted may be read."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.targets = [index % 3 for index in range(100_000)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.read.append(index)
        generator = torch.Generator().manual_seed(index)
        return torch.rand(*SHAPE, generator=generator), self.targets[index]


@pytest.mark.parametrize("loads", [False, True])
def test_of_large_data_only_what_is_wanted_is_read(loads: bool) -> None:
    source = Counting()
    data = DataLoader(source, batch_size=10, shuffle=True) if loads else source
    found = robustcl.audit(network(), data, limit=9, **QUICK)
    assert found.summary.n == 9 and len(set(source.read)) <= 10
    frame = found.frame()
    assert sorted(frame["label"].tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]  # stratified


def test_a_loader_with_its_own_batches_is_asked_itself() -> None:
    source = Counting()
    source.targets = source.targets[:12]

    def halved(items: list) -> tuple[Tensor, Tensor]:
        images, labels = zip(*items, strict=True)
        return torch.stack(images) / 2, torch.tensor(labels)

    loader = DataLoader(source, batch_size=4, collate_fn=halved)
    images = torch.stack([source[i][0] for i in range(12)]) / 2
    plain = robustcl.audit(network(), (images, torch.tensor(source.targets)), **QUICK)
    found = robustcl.audit(network(), loader, **QUICK)
    assert found.summary.certified_accuracy == plain.summary.certified_accuracy
    assert found.frame()["certified"].tolist() == plain.frame()["certified"].tolist()
