"""Say what the class vectors of a training run allow."""

from dataclasses import asdict
from typing import Any

from robustcl.core.terminal import say
from robustcl.data import Dataset
from robustcl.training import TrainRecipe
from robustcl.training.targets import load_targets, target_geometry


def tell_targets(recipe: TrainRecipe, dataset: Dataset) -> dict[str, Any]:
    """Say how far apart the class vectors are, which bounds the radius of semantic training.

    Args:
        recipe: Its losses and targets count.
        dataset: Its class names count.

    Returns:
        The geometry under 'targets', or nothing where no loss has class vectors.
    """
    if not any(term.name == "semantic" for term in recipe.terms):
        return {}
    names = dataset.class_names or tuple(str(k) for k in range(dataset.num_classes))
    found = target_geometry(load_targets(recipe.targets, names), names)
    one, other = found.closest
    say(
        f"targets {recipe.targets}: mean cosine {found.mean_cosine:.2f}, closest {one} and {other} "
        f"({found.highest_cosine:.2f}); at its target an image of {one} has a radius of at most "
        f"{min(found.caps):.2f} / L for an encoder of Lipschitz constant L"
    )
    return {"targets": asdict(found)}
