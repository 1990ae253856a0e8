"""State what an audit measures."""

from dataclasses import dataclass

from robustcl import attacks, certify
from robustcl.core.budgets import check_budgets
from robustcl.core.choices import Norm
from robustcl.core.errors import InputError
from robustcl.core.threat import check_norm
from robustcl.records.kinds import CERTIFIED_BALL

DEFAULT_EPS: dict[str, tuple[float, ...]] = {
    "l2": (0.1, 0.25, 0.5, 1.0, 2.0),
    "linf": (2 / 255, 4 / 255, 8 / 255, 16 / 255, 32 / 255),
    "l1": (1.0, 3.0, 6.0, 12.0, 24.0),
}


@dataclass(frozen=True)
class EvaluationConfig:
    """State what is measured.

    Args:
        norm: 'l2', 'linf' or 'l1'.
        methods: Certificates, as in 'smoothing:sigma=.25,n=1000'.
        attacks: Attacks, as in 'pgd:steps=100'.
        eps: Ascending budgets of the attacks, in pixel units.
        seed: Seed of all noise.
        batch_size: Images per model call.
        screened: Whether AutoAttack, at one budget, is spared images that a deterministic
            certificate covers or PGD fools (see `attacks.screened`).
        one_budget: Whether attacks are run at one budget only, without a search for the smallest
            perturbation.
        test_certificates: Whether each deterministic certificate of the model is put to the test
            by an attack from the surface of its ball.
        views: The views of a multi-view model, in words; '' for a model of one view.

    Raises:
        InputError: When a method, an attack or an option is unknown, does not treat the norm, or
            the budgets are not usable (see `check_budgets`), or a screened audit has another attack
            than AutoAttack or several budgets.
    """

    norm: Norm = "l2"
    methods: tuple[str, ...] = ("product",)
    attacks: tuple[str, ...] = ("pgd",)
    eps: tuple[float, ...] = DEFAULT_EPS["l2"]
    seed: int = 0
    batch_size: int = 128
    screened: bool = False
    one_budget: bool = False
    test_certificates: bool = True
    views: str = ""

    def __post_init__(self) -> None:
        check_norm(self.norm)
        for text in self.methods:
            method = certify.METHODS[certify.parse_method(text).name]
            if not method.treats(self.norm):
                raise InputError(
                    f"{method.name} gives no {self.norm} radius, only {', '.join(method.norms)}; "
                    "leave it out"
                )
        for text in self.attacks:
            attacks.parse_attack(text)
        if self.batch_size < 1:
            raise InputError(f"batch_size {self.batch_size} is below 1")
        check_budgets(self.eps, self.norm)
        if self.one_budget and len(self.eps) > 1:
            raise InputError(f"attacks at one budget take one eps, not {self.eps}")
        others = [text for text in self.attacks if attacks.parse_attack(text).name != "autoattack"]
        if self.screened and (others or len(self.eps) > 1):
            raise InputError(
                f"a screened audit takes autoattack at one eps, not {', '.join(self.attacks)} at "
                f"{self.eps}; leave the others out"
            )

    @property
    def subject(self) -> str:
        """The classifier that is measured and attacked, as certificates name it."""
        return "multi-view model" if self.views else "model"

    @property
    def tests_balls(self) -> bool:
        """Whether there are certified balls to attack."""
        used = (certify.METHODS[certify.parse_method(text).name] for text in self.methods)
        return self.test_certificates and any(
            method.guarantee == "deterministic" and method.subject == self.subject
            for method in used
        )

    @property
    def measures(self) -> tuple[tuple[str, str], ...]:
        """Kind and method of every record that an image gets, in the order of their making."""
        return (
            ("clean", "clean"),
            *(("certificate", text) for text in self.methods),
            *((("attack", CERTIFIED_BALL),) if self.tests_balls else ()),
            *(("attack", text) for text in self.attacks),
        )
