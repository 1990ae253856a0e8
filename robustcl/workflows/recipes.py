"""The options of `robustcl train`, and the recipe they state."""

from dataclasses import fields

from robustcl.core.errors import InputError
from robustcl.data.views import COLOR_VIEWS, DIGIT_VIEWS, GRAY_VIEWS
from robustcl.options.train import TrainOptions
from robustcl.training import TrainRecipe, mixed_loss
from robustcl.training.robust import Deacl, parse_robust

_VIEWS = {"auto": None, "digits": DIGIT_VIEWS, "gray": GRAY_VIEWS, "color": COLOR_VIEWS}


def recipe_of(options: TrainOptions) -> TrainRecipe:
    """Turn the options into a recipe.

    Args:
        options: The options.

    Returns:
        The recipe.

    Raises:
        InputError: When options contradict each other, or a value is not usable.
    """
    loss = options.loss
    if loss in ("simclr", "nt_xent"):
        temperature = 0.5 if options.temperature is None else options.temperature
        loss = mixed_loss(options.label_weight, temperature=temperature)
    elif options.label_weight or options.temperature is not None:
        raise InputError(
            f"--label-weight and --temperature go with --loss simclr, not {loss!r}; write them "
            "into the loss, as in simclr:temperature=.2,weight=.5+supcon"
        )
    own = {entry.name for entry in fields(TrainRecipe)} - {"loss", "views"}
    values = {name: getattr(options, name) for name in own}
    if isinstance(parse_robust(options.robust), Deacl):
        values["projector"] = 0  # it is the teacher's
    return TrainRecipe(loss=loss, views=_VIEWS[options.views], **values)
