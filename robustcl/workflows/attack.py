"""Attack a checkpoint at one budget."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from typing import Any, cast

from robustcl import certify
from robustcl.core.budgets import read_budget
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import UnsupportedError
from robustcl.core.numbers import interval_text, norm_name, percent, radius_text
from robustcl.core.specification import split_specifications
from robustcl.core.terminal import say
from robustcl.evaluation.config import EvaluationConfig
from robustcl.options.attack import AttackOptions, Protocol
from robustcl.records.images import is_labeled, per_image, withstands
from robustcl.records.reading import Run, load_run
from robustcl.records.summary import interval95
from robustcl.workflows.evaluate import evaluate_checkpoint, load_with_head, views_text
from robustcl.workflows.outputs import finish

_ATTACKS: dict[Protocol, str] = {
    "fast": "pgd:steps=40,restarts=4",
    "standard": "autoattack",
    "deep": "autoattack:version=plus",
}
ATTACK_EPS = {"l2": "0.5", "linf": "8/255", "l1": "12"}


def attack(options: AttackOptions) -> int:
    """Run `robustcl attack`.

    Args:
        options: The options.

    Returns:
        The exit code.
    """
    attack_audit(options, ())  # a mistake in the options is said before anything is loaded
    classifier, loaded = load_with_head(options)
    audit = attack_audit(options, _usable(options, classifier))
    code = evaluate_checkpoint(options, audit, classifier, loaded)
    if code is not None:
        return code
    run = load_run(options.out)
    found = {"protocol": options.protocol, "eps": audit.eps[0], **robustness(run, audit.eps[0])}
    place = f"{norm_name(audit.norm)} {radius_text(audit.eps[0], audit.norm)}"
    name = "robust accuracy" if is_labeled(run) else "share of predictions kept"
    rate, interval = (found[key] for key in (_rate(run), "robust_interval95"))
    lines = [f"{name} at {place} ({options.protocol}): {percent(rate)} {interval_text(interval)}"]
    if audit.screened:
        found |= savings(run)
        lines.append(
            f"gradients: {found['gradients']:,}; the reference alone at least "
            f"{found['reference_gradients']:,}, {found['saving']:.2f} times as many "
            f"(ceiling {found['ceiling']:.2f})"
            if found["saving"] and found["ceiling"]
            else "every image was decided before the reference AutoAttack"
        )
    return finish(options.out, json=options.json, also=found, lines=lines, fresh=True)


def attack_audit(options: AttackOptions, methods: tuple[str, ...]) -> EvaluationConfig:
    """Say what a protocol measures.

    Args:
        options: The options.
        methods: Certificates.

    Returns:
        The audit.

    Raises:
        InputError: When eps is not usable.
    """
    eps = ATTACK_EPS[options.norm] if options.eps is None else options.eps
    return EvaluationConfig(
        norm=cast(Norm, options.norm),
        methods=methods,
        attacks=protocol_attacks(options),
        eps=(read_budget(eps, options.norm),),
        seed=options.seed,
        batch_size=options.batch_size,
        screened=options.protocol != "fast" and options.views is None,
        test_certificates=False,  # certificates only spare work here
        views=views_text(options),
    )


def protocol_attacks(options: AttackOptions) -> tuple[str, ...]:
    """Name the attacks of a protocol.

    Args:
        options: The options.

    Returns:
        With views also the attack that aims at each of them and at the single view; the smallest
        perturbation of all attacks counts.
    """
    usual = _ATTACKS[options.protocol]
    return (usual,) if options.views is None else ("every_view:steps=40,restarts=4", usual)


def robustness(run: Run, eps: float) -> dict[str, Any]:
    """Count who is right, and who stays right under attack.

    Args:
        run: The run.
        eps: The budget.

    Returns:
        clean_accuracy and robust_accuracy with their exact 95 % intervals; without labels
        robust_share, of images that keep their predicted class, with its interval.
    """
    images = per_image(run)
    right = images["correct"].to_numpy(dtype=bool)
    kept = right & withstands(images["fooled"], eps).to_numpy(dtype=bool)
    found: dict[str, Any] = {_rate(run): float(kept.mean())}
    found["robust_interval95"] = interval95(int(kept.sum()), len(images))
    if is_labeled(run):
        found["clean_accuracy"] = float(right.mean())
        found["clean_interval95"] = interval95(int(right.sum()), len(images))
    return found


def _rate(run: Run) -> str:
    return "robust_accuracy" if is_labeled(run) else "robust_share"


def savings(run: Run) -> dict[str, Any]:
    """Compare a screened run with the reference alone.

    Args:
        run: The run.

    Returns:
        Passes spent, passes that the reference alone would take at least, the quotient of their
        gradients (saving), and that quotient, were only uncertified survivors attacked (ceiling);
        None where nothing was spent.
    """
    table = run.attacks
    names = ("gradients", "forwards", "reference_gradients", "reference_forwards")
    found: dict[str, Any] = {name: int(table[name].sum()) for name in names}
    left = int(table["reference_gradients"][table["decided"] == "survived"].sum())
    total, spent = found["reference_gradients"], found["gradients"]
    stages = table["decided"].value_counts().to_dict()
    return {
        **found,
        "saving": total / spent if spent else None,
        "ceiling": total / left if left else None,
        "decided": {str(name): int(count) for name, count in stages.items()},
    }


def _usable(options: AttackOptions, classifier: Classifier) -> tuple[str, ...]:
    # Certificates only spare work here: where one does not treat the network, go on without.
    if options.protocol == "fast" or options.methods == "none" or options.views is not None:
        return ()
    usable = []
    for text in split_specifications(options.methods):
        try:
            certify.prepare(certify.parse_method(text), classifier, norm=cast(Norm, options.norm))
            usable.append(text)
        except UnsupportedError as error:
            say(f"no images are spared by {text}: {error}")
    return tuple(usable)
