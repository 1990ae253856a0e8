"""State the options of `certify run`."""

from dataclasses import dataclass

from robustcl.options.shared import EvaluationOptions


@dataclass(frozen=True, kw_only=True)
class RunOptions(EvaluationOptions):
    """Certify and attack a checkpoint, and write records and a report.

    Args:
        methods: Certificates, as in product,smoothing:sigma=.25,n=10000 ('certify methods' lists
            them); 'none' for none. By default product, smoothing and first_order, and with --views
            multi_view instead of product.
        attack: Attacks, as in pgd:steps=100,autoattack; 'none' for none. By default pgd, and with
            --views every_view.
        eps: Ascending budgets of the attacks, as in 0.25,0.5 or 4/255,8/255.
        minutes: Measure what fits into so many minutes: methods, samples, steps and images are
            chosen from the time of passes, and every rate is over the first images of a random
            order on which its method has ended. With --resume, so many minutes more.
        test_certificates: Attack every deterministically certified ball from its surface; what is
            found there is a violation.
        require: Gates, as in "certified_accuracy@0.25>=0.5"; exit code 3 when one is missed. With
            --minutes the lower end of the 95 % interval has to reach the value.
    """

    methods: str | None = None
    attack: str | None = None
    eps: str | None = None
    minutes: float | None = None
    test_certificates: bool = True
    require: tuple[str, ...] = ()
