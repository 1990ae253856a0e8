"""Networks that are not what their layers say, or that claims about are easily too large for."""

# Lists where torch's stubs want tuples, and what nn.Module makes of attributes.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false

import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustcl.core.classifier import Classifier, Encoder
from robustcl.models.heads import LinearHead, PrototypeHead
from tests.network_parts import (
    CLASSES,
    SHAPE,
    Builder,
    Called,
    convolutional,
    dense,
    layers,
    number,
    ready,
    scores,
)

# Aliases: a layer that hands on its input, and then an in-place one.


def _skip(inner: Callable[[], nn.Module]) -> Builder:
    def build(generator: torch.Generator) -> Classifier:
        channels = int(number(generator, 2, 4))

        def forward(self: Any, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.last((x + self.b(self.act(self.a(self.alias(x))))).flatten(1))

        return scores(
            Called(
                forward,
                stem=nn.Conv2d(1, channels, 3, padding=1),
                alias=nn.Sequential(inner(), nn.ReLU(inplace=True)),
                a=nn.Conv2d(channels, channels, 3, padding=1),
                act=nn.ReLU(),
                b=nn.Conv2d(channels, channels, 3, padding=1),
                last=nn.Linear(36 * channels, CLASSES),
            )
        )

    return build


def _alias_flatten(generator: torch.Generator) -> Classifier:
    def forward(self: Any, x: Tensor) -> Tensor:
        h = self.first(x.flatten(1))
        g = self.relu(self.flat(h))
        return self.last(h + self.second(g))

    return scores(
        Called(forward, flat=nn.Flatten(), relu=nn.ReLU(inplace=True), **layers(generator))
    )


def _alias_dropout(generator: torch.Generator) -> Classifier:
    def forward(self: Any, x: Tensor) -> Tensor:
        h = self.first(x.flatten(1))
        g = functional.relu(functional.dropout(h, 0.5, training=False), inplace=True)
        return self.last(h + self.second(g))

    return scores(Called(forward, **layers(generator)))


def _alias_view(generator: torch.Generator) -> Classifier:
    kind = int(number(generator, 0, 1, 2))

    def forward(self: Any, x: Tensor) -> Tensor:
        h = self.first(x.flatten(1))
        g = (h.view(h.size(0), -1), h.reshape(h.size(0), -1), h.contiguous())[kind].relu_()
        return self.last(h + self.second(g))

    return scores(Called(forward, **layers(generator)))


def _alias_statement(generator: torch.Generator) -> Classifier:
    # The in-place call's own result is not used at all.
    def forward(self: Any, x: Tensor) -> Tensor:
        h = self.first(x.flatten(1))
        torch.relu_(h) if self.kind else h.mul_(-0.5)
        return self.last(h)

    network = Called(forward, **layers(generator))
    network.kind = bool(number(generator, 0, 1))
    return scores(network)


def _after_normalization(generator: torch.Generator) -> Classifier:
    def forward(self: Any, x: Tensor) -> Tensor:
        h = functional.normalize(self.second(torch.relu(self.first(x.flatten(1)))), dim=1)
        h.sub_(0.3)
        return h

    parts = layers(generator)
    width = parts["second"].weight.shape[0]
    encoder = Encoder(Called(forward, **parts), image_shape=SHAPE)
    return Classifier(encoder, PrototypeHead(torch.randn(CLASSES, int(width)))).eval()


# Behaviour outside of the layers.


def _small(generator: torch.Generator) -> Classifier:
    network = dense(nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
    if number(generator, 0, 1):
        return scores(network)
    encoder = Encoder(network[:4], image_shape=SHAPE)
    return Classifier(encoder, LinearHead(torch.randn(CLASSES, 8), torch.randn(CLASSES))).eval()


def _hooked(generator: torch.Generator) -> Classifier:
    model = _small(generator)
    parts = [part for part in model.modules() if part is not model] + [model]
    part = parts[int(torch.randint(len(parts), (), generator=generator))]
    if number(generator, 0, 1):
        part.register_forward_hook(lambda module, given, result: result * -1.5)
    else:
        part.register_forward_pre_hook(lambda module, given: tuple(1.0 - x for x in given))
    return model


def _replaced(generator: torch.Generator) -> Classifier:
    model = _small(generator)
    parts = [part for part in model.modules() if part is not model] + [model]
    part = parts[int(torch.randint(len(parts), (), generator=generator))]
    before = part.forward
    part.forward = lambda x: -before(x)
    return model


class OwnEncoder(Encoder):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(1.0 - images)


class OwnClassifier(Classifier):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(1.0 - images)


class OwnEmbeddings(Classifier):
    def embeddings(self, images: Tensor) -> Tensor:
        return super().embeddings(images).flip(1)


def _subclassed(generator: torch.Generator) -> Classifier:
    model, kind = _small(generator), int(number(generator, 0, 1, 2))
    if kind == 0:
        own = OwnEncoder(model.encoder.backbone, image_shape=SHAPE)
        return Classifier(own, model.head, normalizes=model.normalizes).eval()
    chosen = OwnClassifier if kind == 1 else OwnEmbeddings
    return chosen(model.encoder, model.head, normalizes=model.normalizes).eval()


class Stubborn(nn.BatchNorm2d):
    def train(self, mode: bool = True) -> "Stubborn":
        del mode
        return super().train(True)


class KeepsTraining(nn.Sequential):
    def train(self, mode: bool = True) -> "KeepsTraining":
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.training = True
        return self


def _live_batch_norm(generator: torch.Generator) -> Classifier:
    kind = int(number(generator, 0, 1, 2, 3))
    if kind == 0:
        return scores(ready(convolutional(Stubborn(4), nn.ReLU())))
    if kind == 1:
        return scores(KeepsTraining(*ready(convolutional(nn.BatchNorm2d(4), nn.ReLU()))))
    if kind == 2:
        bare = nn.BatchNorm2d(4, track_running_stats=False)
        return scores(ready(convolutional(bare, nn.ReLU())))

    def forward(self: Any, x: Tensor) -> Tensor:
        norm = self.norm
        x = functional.batch_norm(
            self.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, True
        )
        return self.last(torch.relu(x).flatten(1))

    return scores(
        Called(forward, conv=nn.Conv2d(1, 4, 3), norm=nn.BatchNorm2d(4), last=nn.Linear(64, 3))
    )


def _reinterpreted(generator: torch.Generator) -> Classifier:
    kind = int(number(generator, 0, 1, 2, 3))

    def forward(self: Any, x: Tensor) -> Tensor:
        h = self.first(x.flatten(1))
        if kind == 0:
            h = h.view(torch.int64 if h.dtype == torch.float64 else torch.int32).view(h.dtype)
        elif kind == 1:
            h = torch.as_strided(h, h.shape, h.stride(), 0)
        elif kind == 2:
            h = h.view(h.size(0), -1, 2).transpose(1, 2).reshape(h.size(0), -1)
        else:
            h = h.float().to(h.dtype) * 1.0
        return self.last(torch.relu(h))

    return scores(Called(forward, **layers(generator)))


def _random(generator: torch.Generator) -> Classifier:
    kind, rare = int(number(generator, 0, 1, 2)), number(generator, 0.0, 0.001)

    def forward(self: Any, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x.flatten(1)))
        draw = float(torch.rand(())) if kind == 0 else random.random()
        if draw < rare:
            h = -h
        return self.last(functional.dropout(h, 0.01, training=True) if kind == 2 else h)

    return scores(Called(forward, **layers(generator)))


def _stateful(generator: torch.Generator) -> Classifier:
    kind = int(number(generator, 0, 1))

    def forward(self: Any, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x.flatten(1)))
        if kind:
            self.calls += 1
            sign = -1.0 if self.calls % 50 == 49 else 1.0
            return self.last(h) * sign
        self.count.add_(1.0)
        return self.last(h) + self.count

    network = Called(forward, **layers(generator))
    network.calls = 0
    network.register_buffer("count", torch.zeros(()))
    return scores(network)


def _branching(generator: torch.Generator) -> Classifier:
    kind = int(number(generator, 0, 1, 2, 3, 4))

    def forward(self: Any, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x.flatten(1)))
        if kind == 0:
            h = h + x.shape[0]
        elif kind == 1:
            h = h + x.size(0) * 0.1
        elif kind == 2:
            h = -h if torch.compiler.is_compiling() or is_traced() else h
        elif kind == 3:
            h = h if bool(h.sum() > 0) else -h
        else:
            h = h if x.size(0) == 1 else -h
        return self.last(h)

    return scores(Called(forward, **layers(generator)))


def is_traced() -> bool:
    return bool(getattr(torch.fx._symbolic_trace, "_is_fx_tracing_flag", False))


def _mixing(generator: torch.Generator) -> Classifier:
    kind = int(number(generator, 0, 1, 2, 3, 4))

    def forward(self: Any, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x.flatten(1)))
        if kind == 0:
            h = h.flip(0)
        elif kind == 1:
            h = h - h.mean(0, keepdim=True)
        elif kind == 2:
            h = h.reshape(h.shape[1], -1).reshape(h.shape[0], -1).flip(0)
        elif kind == 3:
            h = h + h.roll(1, 0)
        else:
            h = h + h.amax(0)
        return self.last(h)

    return scores(Called(forward, **layers(generator)))


def _scaled_sum(generator: torch.Generator) -> Classifier:
    kind = int(number(generator, 0, 1, 2, 3, 4))

    def forward(self: Any, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x.flatten(1)))
        g = self.second(h)
        if kind == 0:
            h = torch.add(h, 20, g)
        elif kind == 1:
            h = h.add(20, g)
        elif kind == 2:
            h = torch.add(h, g, alpha=20)
        elif kind == 3:
            h = torch.sub(h, 20, g)
        else:
            h = h.sub(g, alpha=20)
        return self.last(h)

    return scores(Called(forward, **layers(generator)))


def _softplus_jump(generator: torch.Generator) -> Classifier:
    # 1e9 (softplus(z) - z): the jump of Softplus at its threshold of 20, made visible.
    beta, sign = number(generator, 1.0, 2.0, 0.5), number(generator, 1.0, -1.0)

    def forward(self: Any, x: Tensor) -> Tensor:
        z = self.first(x.flatten(1))
        return self.last((self.soft(z) - z) * 1e9)

    first, last = nn.Linear(36, 1), nn.Linear(1, CLASSES)
    with torch.no_grad():
        first.weight.mul_(6.0)
        first.bias.fill_(20.0 / beta - 0.05)
        last.weight.copy_(torch.tensor([[sign], [-sign], [0.0]]))
        last.bias.copy_(torch.tensor([-sign * beta, sign * beta, -9.0]))
    return scores(Called(forward, first=first, soft=nn.Softplus(beta=beta), last=last))


def _extreme(generator: torch.Generator) -> Classifier:
    network = dense(nn.ReLU(), nn.Linear(8, 8), nn.ReLU()).double()
    scale = number(generator, 1e-160, 1e-200, 1e-310, 1e160, 1e200, 1e300)
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Linear) and number(generator, 0, 1, 1):
                layer.weight.mul_(scale)
    if not all(bool(torch.isfinite(value).all()) for value in network.state_dict().values()):
        return _extreme(generator)
    return scores(network)


# What certifies another network, or too much, where it is not refused.
PLANTED: Mapping[str, Builder] = {
    "alias identity": _skip(nn.Identity),
    "alias dropout": _skip(nn.Dropout),
    "alias dropout2d": _skip(nn.Dropout2d),
    "alias flatten": _alias_flatten,
    "alias F.dropout": _alias_dropout,
    "alias view": _alias_view,
    "alias statement": _alias_statement,
    "after normalization": _after_normalization,
    "hooks": _hooked,
    "replaced forward": _replaced,
    "subclasses": _subclassed,
    "live BatchNorm": _live_batch_norm,
    "reinterpreted memory": _reinterpreted,
    "rare randomness": _random,
    "Python state": _stateful,
    "branches": _branching,
    "mixed images": _mixing,
    "scaled sums": _scaled_sum,
    "jump of Softplus": _softplus_jump,
    "extreme weights": _extreme,
}
