"""SLF, ALF and AFF on digits: what stays frozen stays, and what attacks train is harder to move."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustcl.attacks import inner_ascent
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.core.threat import Threat
from robustcl.data import Dataset, load_data
from robustcl.models.heads.fitting import encoder_hash, fit_head
from robustcl.training.protocols import ProtocolOptions, aff, alf, slf, stepped_rate
from robustcl.training.protocols._aff import divergence

OPTIONS = ProtocolOptions(epochs=3, batch_size=64, steps=3, threat=Threat("linf", 0.15))


def encoder() -> Encoder:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()]
    backbone = nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(72, 24))
    # Left in training mode on purpose: a protocol must not let the statistics run on.
    return Encoder(backbone, image_shape=(1, 8, 8)).train()


def digits() -> Dataset:
    return load_data("digits", split="train", limit=400)


def losses(model: Classifier, threat: Threat) -> tuple[float, float]:
    """Mean cross-entropy on clean test images and on attacked ones."""
    batch = load_data("digits", split="test").batch(range(200))

    def cross_entropy(points: Tensor) -> Tensor:
        return functional.cross_entropy(model(points), batch.labels)

    generator = torch.Generator().manual_seed(1)
    with eval_mode(model):
        points = inner_ascent(cross_entropy, batch.images, threat, generator=generator, steps=10)
        return float(cross_entropy(batch.images)), float(cross_entropy(points))


@pytest.mark.parametrize("protocol", ["slf", "alf"])
def test_a_linear_protocol_leaves_the_encoder_as_it_is(protocol: str) -> None:
    model = encoder()
    before = encoder_hash(model)
    options = dataclasses.replace(
        OPTIONS, epochs=15, learning_rate=0.1, threat=Threat("linf", 0.02)
    )
    if protocol == "slf":
        found = slf(model, digits(), options=options)
    else:
        found = alf(model, digits(), attack=inner_ascent, options=options)
    assert encoder_hash(model) == before == encoder_hash(found.encoder)
    assert all(weight.grad is None for weight in model.parameters())
    assert all(weight.requires_grad for weight in model.parameters())
    points = load_data("digits", split="test").batch(range(200))
    assert float((found(points.images).argmax(1) == points.labels).float().mean()) > 0.5


def test_slf_comes_near_the_logistic_regression() -> None:
    # Without decay and with time both look for the same head: the loss of the other is a floor.
    data = digits()
    batch = data.batch(range(len(data)))
    options = dataclasses.replace(OPTIONS, epochs=40, weight_decay=0.0)
    models = slf(encoder(), data, options=options), fit_head(encoder(), data, kind="linear")
    with torch.no_grad():
        found, best = (
            float(functional.cross_entropy(model(batch.images), batch.labels)) for model in models
        )
    zero = math.log(10.0)
    assert found < 0.4 * zero and found > 0.2 * best


def test_attacked_training_pays_off_under_attack() -> None:
    # The same number of steps from the same start, judged by another attack.
    options = dataclasses.replace(OPTIONS, epochs=6, learning_rate=0.05)
    standard = losses(slf(encoder(), digits(), options=options), options.threat)
    linear = losses(alf(encoder(), digits(), attack=inner_ascent, options=options), options.threat)
    full = losses(aff(encoder(), digits(), attack=inner_ascent, options=options), options.threat)
    assert standard[1] > standard[0] + 0.2
    assert linear[1] < standard[1] and full[1] < linear[1]


def test_aff_trains_weights_and_statistics() -> None:
    model = encoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    aff(model, digits(), attack=inner_ascent, options=dataclasses.replace(OPTIONS, epochs=1))
    for name in ("backbone.0.weight", "backbone.1.running_mean", "backbone.5.weight"):
        assert not torch.equal(before[name], model.state_dict()[name])


def test_the_attack_of_trades_sees_eval_mode_and_the_threat() -> None:
    seen: list[bool] = []
    model = encoder()

    def spy(loss, images, threat, **options):
        assert options["steps"] == 3 and threat is OPTIONS.threat
        assert float(loss(images)) == pytest.approx(0.0, abs=1e-6)
        seen.append(any(part.training for part in model.modules()))
        assert not any(weight.requires_grad for weight in model.parameters())
        return images

    aff(model, digits(), attack=spy, options=dataclasses.replace(OPTIONS, epochs=1))
    assert len(seen) == 7 and not any(seen)


def test_divergence_is_that_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, reference = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    p, q = torch.softmax(reference, dim=1), torch.softmax(scores, dim=1)
    slow = sum(float(a * (a / b).log()) for a, b in zip(p.flatten(), q.flatten(), strict=True)) / 5
    assert float(divergence(scores, reference)) == pytest.approx(slow)
    assert float(divergence(scores, scores + 3.0)) == pytest.approx(0.0, abs=1e-12)


def test_the_rate_drops_twice_and_shrinks_with_the_epochs() -> None:
    papers = [stepped_rate(epoch, 25) for epoch in range(25)]
    assert papers == pytest.approx([1.0] * 15 + [0.1] * 5 + [0.01] * 5)
    assert [stepped_rate(e, 5) for e in range(5)] == pytest.approx([1, 1, 1, 0.1, 0.01])
    assert stepped_rate(0, 1) == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs 0"),
        ({"steps": 0}, "steps 0"),
        ({"batch_size": 1}, "batch_size 1"),
        ({"learning_rate": 0.0}, "learning_rate 0.0"),
        ({"beta": -1.0}, "beta -1.0"),
        ({"momentum": 1.0}, "momentum 1.0"),
        ({"threat": Threat("linf", 0.0)}, "eps 0"),
    ],
)
def test_options_refuse(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ProtocolOptions(**change)


def test_refuses_data_that_does_not_fit() -> None:
    with pytest.raises(InputError, match="no labels"):
        slf(encoder(), dataclasses.replace(digits(), labeled=False))
    other = Encoder(nn.Sequential(nn.Flatten(), nn.Linear(256, 4)), image_shape=(1, 16, 16))
    with pytest.raises(InputError, match="images of shape"):
        slf(other, digits())
