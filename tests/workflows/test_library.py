"""The library's verbs: train, fit_head, load, save, audit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import robustcl
from robustcl.certify import product
from robustcl.data import load_data
from robustcl.data.subsets import label_subset


@pytest.fixture(scope="module")
def classifier() -> robustcl.Classifier:
    model = robustcl.train("digits", loss="supcon", epochs=2, seed=3, learning_rate=3e-3)
    assert isinstance(model, robustcl.Classifier)
    return model


def test_what_is_saved_is_loaded(classifier: robustcl.Classifier, tmp_path: Path) -> None:
    place = tmp_path / "model.safetensors"
    arguments = {"channels": 1, "image_size": 8}
    robustcl.save(place, classifier, arch="small_convnet", arguments=arguments)
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(robustcl.load(place)(images), classifier(images))


def test_training_writes_the_checkpoint_that_it_returns(tmp_path: Path) -> None:
    place = tmp_path / "lipschitz.safetensors"
    model = robustcl.train("digits", robust="lipschitz", epochs=1, out=place)
    images = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(robustcl.load(place)(images), model(images))


def test_an_audit_tells_the_same_as_its_parts(classifier: robustcl.Classifier) -> None:
    result = robustcl.audit(
        classifier, "digits", limit=12, methods="product", attacks="pgd:steps=5"
    )
    table = result.frame()
    data = load_data("digits", limit=12)
    images = data.batch(range(12)).images
    claim = product(classifier, images, norm="l2")
    assert np.allclose(table["certified"], claim.radius.numpy(), rtol=1e-12)
    assert result.summary.n == 12 and not result.summary.violations
    right = classifier(images).argmax(dim=1).numpy() == data.labels
    assert result.summary.clean_accuracy == pytest.approx(right.mean())
    assert "product" in str(result) and "<table" in result._repr_html_()
    with pytest.raises(robustcl.InputError, match="no table 'x'"):
        result.frame("x")


def test_a_plain_network_and_plain_tensors_are_audited(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(12, 3)
    network = nn.Sequential(nn.Flatten(), layer).train()
    images, labels = torch.rand(5, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1])
    result = robustcl.audit(
        network, (images, labels), methods="product", attacks="", norm="linf", out=tmp_path / "run"
    )
    assert network.training
    weight = layer.weight.detach().double()
    scores = (images.flatten(1).double() @ weight.T) + layer.bias.detach().double()
    best = scores.argmax(dim=1)
    gaps = scores.gather(1, best[:, None]) - scores
    slopes = (weight[best][:, None] - weight[None]).abs().sum(dim=2)
    radius = (gaps / slopes).masked_fill(gaps == 0, float("inf")).min(dim=1).values
    found = result.frame()["certified"].to_numpy()
    assert (found <= radius.numpy()).all() and np.allclose(found, radius.numpy(), rtol=1e-6)
    page = result.report(tmp_path / "page.html")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_what_is_not_usable_is_refused(classifier: robustcl.Classifier) -> None:
    with pytest.raises(robustcl.InputError, match="fit_head"):
        robustcl.audit(classifier.encoder, "digits")
    with pytest.raises(robustcl.InputError, match="unknown option 'epoch'"):
        robustcl.train("digits", epoch=3)


def test_a_claim_and_an_attack_print_short_tables(classifier: robustcl.Classifier) -> None:
    images = load_data("digits", limit=3).batch(range(3)).images
    claim = product(classifier, images, norm="l2")
    assert list(claim.frame()["radius"]) == claim.radius.tolist()
    assert str(claim).startswith("deterministic l2 radii about the model")
    objective = robustcl.misclassify(classifier, claim.predicted)
    result = robustcl.attacks.run_attack("pgd", objective, images, robustcl.Threat("l2", 0.5))
    assert list(result.frame()["success"]) == result.success.tolist()
    assert str(result).startswith("pgd: ")


def test_the_head_sees_no_label_that_the_losses_may_not_see() -> None:
    options = {"loss": "simclr+supcon", "labels": 0.05, "epochs": 1, "seed": 2, "label_seed": 4}
    model = robustcl.train("digits", **options)
    assert isinstance(model, robustcl.Classifier)
    data = load_data("digits", split="train", seed=2)
    rows = label_subset(data.labels, 0.05, num_classes=10, seed=4)
    wanted = robustcl.fit_head(model.encoder, data.select(rows)).head.state_dict()
    everything = robustcl.fit_head(model.encoder, data).head.state_dict()
    found = model.head.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert not torch.equal(found["weight"], everything["weight"])


def test_a_file_that_exists_is_not_replaced(tmp_path: Path) -> None:
    place = tmp_path / "mine.safetensors"
    place.write_text("mine")
    with pytest.raises(robustcl.InputError, match="exists"):
        robustcl.train("digits", epochs=1, out=place)
    with pytest.raises(robustcl.InputError, match="does not end in"):
        robustcl.train("digits", epochs=1, out=tmp_path / "x.pt")
    assert place.read_text() == "mine"


def test_tensors_of_other_types_and_shapes(classifier: robustcl.Classifier) -> None:
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    found = robustcl.audit(classifier, (images.bfloat16(), labels), methods="product", attacks="")
    rounded = (images.bfloat16().float(), labels)
    wanted = robustcl.audit(classifier, rounded, methods="product", attacks="")
    assert list(found.frame()["certified"]) == list(wanted.frame()["certified"])
    with pytest.raises(robustcl.InputError, match="are not"):
        robustcl.audit(classifier, (images[0], labels[:1]))
