"""Certify and attack a checkpoint."""

from typing import cast

from robustcl.core.budgets import read_budgets
from robustcl.core.choices import Norm
from robustcl.core.errors import InputError
from robustcl.core.specification import split_specifications
from robustcl.evaluation.config import DEFAULT_EPS, EvaluationConfig
from robustcl.evaluation.minutes import check_minutes
from robustcl.evaluation.minutes_plan import MINUTES_EPS
from robustcl.options.run import RunOptions
from robustcl.records.ranks import rank_count
from robustcl.workflows.evaluate import evaluate_checkpoint, load_with_head, views_text
from robustcl.workflows.outputs import finish, parse_gate
from robustcl.workflows.within_minutes import evaluate_minutes


def run(options: RunOptions) -> int:
    """Run `certify _run`.

    Args:
        options: The options.

    Returns:
        The exit code.
    """
    for gate in options.require:
        parse_gate(gate)
    if options.minutes is not None:
        return run_within(options)
    audit = evaluation_config(options)
    classifier, loaded = load_with_head(options)
    code = evaluate_checkpoint(options, audit, classifier, loaded, require=options.require)
    if code is not None:
        return code
    return finish(options.out, json=options.json, require=options.require, fresh=True)


def run_within(options: RunOptions) -> int:
    """Run `certify run --minutes M`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        InputError: When the minutes are no positive number, or asked for together with what takes
            its own time.
    """
    check_minutes(options.minutes)
    if rank_count() > 1 or options.plan is not None:
        raise InputError("--minutes is for one process, and plans by itself; leave out --plan")
    if options.views is not None and (options.methods is None or options.attack is None):
        raise InputError("--minutes with --views chooses no methods; name --methods and --attack")
    audit = evaluation_config(options)
    classifier, loaded = load_with_head(options)
    code = evaluate_minutes(options, audit, classifier, loaded)
    if code is not None:
        return code
    return finish(options.out, json=options.json, require=options.require, fresh=True)


def evaluation_config(options: RunOptions) -> EvaluationConfig:
    """Read methods, attacks and budgets.

    Args:
        options: The options.

    Returns:
        The audit.
    """
    eps = DEFAULT_EPS[options.norm] if options.minutes is None else (MINUTES_EPS[options.norm],)
    if options.eps is not None:
        eps = read_budgets(options.eps, options.norm)
    own = "product" if options.views is None else "multi_view"
    estimate = "" if options.norm == "l1" else ",first_order"
    methods = options.methods or f"{own},smoothing:sigma=.25,n=1000{estimate}"
    attack = options.attack or ("pgd" if options.views is None else "every_view")
    return EvaluationConfig(
        norm=cast(Norm, options.norm),
        methods=() if methods == "none" else split_specifications(methods),
        attacks=() if attack == "none" else split_specifications(attack),
        eps=eps,
        seed=options.seed,
        batch_size=options.batch_size,
        test_certificates=options.test_certificates,
        views=views_text(options),
    )
