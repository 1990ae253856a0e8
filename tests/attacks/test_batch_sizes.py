"""The same seeds give the same verdicts, whatever the batch size, for every attack in the table."""

import importlib.util
from typing import Any

import pytest

from robustcl import attacks
from robustcl.core.choices import NORMS, Norm
from robustcl.core.objectives import displace, misclassify
from robustcl.core.threat import Threat
from tests.network import small_classifier, some_images

SIZES = (1, 7, 128)
# Few steps suffice here; the walk's first points and its polish are attacks of their own.
QUICK: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 10, "restarts": 3},
    "apgd": {"steps": 10, "restarts": 3},
    "fmn": {"steps": 20},
    "ddn": {"steps": 20},
    "deepfool": {"steps": 10},
    "boundary_walk": {"steps": 4, "polish": 4},
    "embedding_shift": {"steps": 10},
    "noise": {},
    "every_view": {"steps": 10, "restarts": 2},
    "surface": {},
    "autoattack": {},
    # One generator draws the starts of a whole batch: with them the package is exempt.
    "torchattacks": {"name": "PGDL2", "steps": 10, "random_start": False},
}
CASES = [
    (name, norm)
    for name, entry in attacks.ATTACKS.items()
    for norm in entry.norms
    if norm == "l2" or name not in ("autoattack", "torchattacks")
]


def test_every_attack_of_the_table_is_here() -> None:
    assert set(QUICK) == set(attacks.ATTACKS)
    assert {norm for _, norm in CASES} == set(NORMS)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_verdicts_do_not_depend_on_the_batch_size(name: str, norm: Norm) -> None:
    if name == "torchattacks" and importlib.util.find_spec("torchattacks") is None:
        pytest.skip("torchattacks is not installed")
    model, images = small_classifier(classes=3), some_images()
    objective = misclassify(model, model(images).argmax(1))
    if name == "embedding_shift":
        objective = displace(model, images, threshold=0.35)
    radius = attacks.attacked_radius("fmn", objective, images, norm=norm, eps_grid=[9.0]).radius
    # A budget that some images withstand, and to which no image is close. One that survives the
    # reference takes thousands of passes, so there all of them fall.
    ordered = radius.sort().values
    place = int((ordered[1:] / ordered[:-1])[2:-2].argmax()) + 2
    eps = float((ordered[place] * ordered[place + 1]).sqrt())
    eps = 1.5 * float(ordered[-1]) if name == "autoattack" else eps
    seeds = [11 * row + 5 for row in range(len(images))]
    verdicts = [
        attacks.run_attack(
            name, objective, images, Threat(norm, eps), seeds=seeds, batch_size=size, **QUICK[name]
        ).success.tolist()
        for size in SIZES
    ]
    assert verdicts[0] == verdicts[1] == verdicts[2]
    if name not in ("noise", "autoattack"):
        assert 0 < sum(verdicts[0]) < len(images)
