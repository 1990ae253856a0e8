"""Certify and attack a checkpoint."""

from dataclasses import dataclass
from typing import cast

from robustcl.auditing.audit import DEFAULT_EPS, Audit
from robustcl.budgets import read_budgets
from robustcl.commands.audit_checkpoint import audit_checkpoint, load_with_head, views_text
from robustcl.commands.finish import finish, parse_gate
from robustcl.commands.options import AuditOptions
from robustcl.specification import split_specifications
from robustcl.threat import Norm


@dataclass(frozen=True, kw_only=True)
class RunOptions(AuditOptions):
    """Certify and attack a checkpoint, and write records and a report.

    Args:
        methods: Certificates, as in product,smoothing:sigma=.25,n=10000 ('certify methods' lists
            them); 'none' for none. By default product, smoothing and first_order, and with --views
            multi_view instead of product.
        attack: Attacks, as in pgd:steps=100,autoattack; 'none' for none. By default pgd, and with
            --views every_view.
        eps: Ascending budgets of the attacks, as in 0.25,0.5 or 4/255,8/255.
        test_certificates: Attack every deterministically certified ball from its surface; what is
            found there is a violation.
        require: Gates, as in "certified_accuracy@0.25>=0.5"; exit code 3 when one is missed.
    """

    methods: str | None = None
    attack: str | None = None
    eps: str | None = None
    test_certificates: bool = True
    require: tuple[str, ...] = ()


def run(options: RunOptions) -> int:
    """Run `certify run`.

    Args:
        options: The options.

    Returns:
        The exit code.
    """
    for gate in options.require:
        parse_gate(gate)
    audit = make_audit(options)
    classifier, loaded = load_with_head(options)
    code = audit_checkpoint(options, audit, classifier, loaded, require=options.require)
    if code is not None:
        return code
    return finish(options.out, json=options.json, require=options.require)


def make_audit(options: RunOptions) -> Audit:
    """Read methods, attacks and budgets.

    Args:
        options: The options.

    Returns:
        The audit.
    """
    eps = DEFAULT_EPS[options.norm]
    if options.eps is not None:
        eps = read_budgets(options.eps, options.norm)
    own = "product" if options.views is None else "multi_view"
    methods = options.methods or f"{own},smoothing:sigma=.25,n=1000,first_order"
    attack = options.attack or ("pgd" if options.views is None else "every_view")
    return Audit(
        norm=cast(Norm, options.norm),
        methods=() if methods == "none" else split_specifications(methods),
        attacks=() if attack == "none" else split_specifications(attack),
        eps=eps,
        seed=options.seed,
        batch_size=options.batch_size,
        test_certificates=options.test_certificates,
        views=views_text(options),
    )
