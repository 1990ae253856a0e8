"""Check that attacks and certificates give the known answers on this machine."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from torch import nn

from robustcl import attacks, certify
from robustcl.attacks.checks.known_answers import DEFENSES, broken_defense
from robustcl.attacks.known_answer import known_answer, linear_classifier
from robustcl.core.choices import CERTIFIED_NORMS, CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.last_handler import PART_FAILED
from robustcl.core.objectives import misclassify
from robustcl.core.seeds import example_noise
from robustcl.core.terminal import answer, emit
from robustcl.core.threat import Threat
from robustcl.evaluation.manifest import device_name, package_versions
from robustcl.options.doctor import DoctorOptions
from robustcl.workflows.data import check_device

_EPS = {"l2": 0.5, "linf": 0.1}
RADIUS = {"l2": 0.3, "linf": 0.05}
MARGIN = 0.02  # of the radius, by which a budget is too small or large enough
PLANTS = 3
_IMAGES = 16  # on which flags are looked for
TORCHATTACKS: dict[CertifiedNorm, str] = {"l2": "PGDL2", "linf": "PGD"}


@dataclass(frozen=True)
class _Check:
    """Hold the outcome of a test.

    Args:
        name: What was tested.
        outcome: 'ok', 'failed' or 'skipped'.
        detail: What was found.
    """

    name: str
    outcome: str
    detail: str


def doctor(options: DoctorOptions) -> int:
    """Run `robustcl doctor`.

    Args:
        options: The options.

    Returns:
        The exit code: 0, or 4 when a test failed.
    """
    check_device(options.device)
    started = time.monotonic()
    versions = package_versions()
    tell = partial(answer, json=options.json)
    tell(" ".join(f"{name} {found}" for name, found in versions.items()))
    tell(f"device: {device_name(options.device)}")
    checks = []
    for check in run_checks(options):
        tell(f"{check.outcome:7} {check.name}: {check.detail}")
        checks.append(check)
    failed = sum(check.outcome == "failed" for check in checks)
    tell(f"{len(checks)} tests, {failed} failed, {time.monotonic() - started:.0f} s")
    if options.json:
        content = {"versions": versions, "device": device_name(options.device), "failed": failed}
        emit({**content, "checks": [vars(check) for check in checks]})
    return PART_FAILED if failed else 0


def run_checks(options: DoctorOptions) -> Iterator[_Check]:
    """Run every test.

    Args:
        options: The options.

    Yields:
        The outcomes, one by one; an exception is a failure of its test.
    """
    for norm in CERTIFIED_NORMS:
        names: list[tuple[str, dict[str, Any]]] = [("pgd", {}), ("autoattack", {})]
        if find_spec("torchattacks") is None:
            yield _Check(
                f"planted, torchattacks, {norm}", "skipped", "the package is not installed"
            )
        else:
            names.append(("torchattacks", {"name": TORCHATTACKS[norm], "steps": 40}))
        for name, extra in names:
            title = f"planted adversarials, {name}, {norm}"
            yield _checked(title, lambda n=name, e=extra, m=norm: _planted(n, m, options, e))
        for name in ("pgd", "autoattack"):
            title = f"linear oracle, {name}, {norm}"
            yield _checked(title, lambda n=name, m=norm: _oracle(n, m, options))
        yield _checked(
            f"linear oracle, certificate, {norm}", lambda m=norm: _certificate(m, options)
        )
        yield _checked(f"flags of planted defenses, {norm}", lambda m=norm: _flags(m, options))


def _checked(name: str, test: Callable[[], tuple[bool, str]]) -> _Check:
    try:
        passed, detail = test()
    except Exception as error:  # noqa: BLE001 whatever breaks a test is what the doctor looks for
        return _Check(name, "failed", f"{type(error).__name__}: {error}")
    return _Check(name, "ok" if passed else "failed", detail)


def _planted(
    name: str, norm: CertifiedNorm, options: DoctorOptions, extra: dict[str, Any]
) -> tuple[bool, str]:
    # An attack that misses a plant would call a vulnerable model robust.
    found = 0
    for seed in range(options.seed, options.seed + PLANTS):
        problem = known_answer(norm, eps=_EPS[norm], seed=1000 * seed)
        classifier = problem.classifier.to(options.device)
        image = problem.image.to(options.device)
        objective = misclassify(classifier, classifier(image).argmax(dim=1))
        result = attacks.run_attack(
            name, objective, image, problem.threat, seeds=[seed], batch_size=1, **extra
        )
        found += int(result.success.sum())
    return found == PLANTS, f"{found} of {PLANTS} found"


def _oracle(name: str, norm: CertifiedNorm, options: DoctorOptions) -> tuple[bool, str]:
    # Below the distance nothing can be found, a little above it everything must be.
    exact = RADIUS[norm]
    classifier, image = linear_classifier(norm, radius=exact, seed=options.seed)
    classifier, image = classifier.to(options.device), image.to(options.device)
    objective = misclassify(classifier, classifier(image).argmax(dim=1))
    outcome = [
        bool(
            attacks.run_attack(
                name, objective, image, Threat(norm, share * exact), batch_size=1
            ).success
        )
        for share in (1.0 - MARGIN, 1.0 + MARGIN)
    ]
    said = ["found" if won else "nothing" for won in outcome]
    detail = f"exact radius {exact}; {1 - MARGIN:.0%} of it: {said[0]}, {1 + MARGIN:.0%}: {said[1]}"
    return outcome == [False, True], detail


def _certificate(norm: CertifiedNorm, options: DoctorOptions) -> tuple[bool, str]:
    exact = RADIUS[norm]
    classifier, image = linear_classifier(norm, radius=exact, seed=options.seed)
    claim = certify.product(classifier, image, norm=norm)
    proved = float(claim.radius[0])
    return 0.99 * exact <= proved <= exact * (
        1 + 1e-6
    ), f"exact radius {exact}, proved {proved:.6g}"


def _flags(norm: CertifiedNorm, options: DoctorOptions) -> tuple[bool, str]:
    # Each defense has to be found out, and the network without one must not be suspected.
    problem = known_answer(norm, eps=_EPS[norm], seed=options.seed)
    network = nn.Sequential(problem.classifier.encoder, problem.classifier.head)
    noise = example_noise(list(range(_IMAGES)), problem.image.shape[1:], kind="uniform")
    images = (0.5 + 0.5 * noise).to(options.device)
    networks = {"": network, **{flag: broken_defense(flag, network) for flag in DEFENSES}}
    wrong = []
    for flag, spoiled in networks.items():
        model = Classifier.from_scores(spoiled, image_shape=problem.image.shape[1:])
        model = model.to(options.device)
        found = [f.name for f in attacks.model_flags(model, images, problem.threat)]
        if found if flag == "" else flag not in found:
            wrong.append(f"{flag or 'no defense'}: {', '.join(found) or 'none'}")
    return not wrong, "; ".join(wrong) or f"{len(DEFENSES)} defenses found out, their twin silent"
