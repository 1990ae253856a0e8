"""Index torchvision's classification networks by the names and shapes of their tensors."""

import warnings

import torch
from torch import nn

from robustcl.models.weights.recognition import signature


def last_linear(network: nn.Module) -> str:
    """Name the linear layer that was registered last.

    Args:
        network: The network.

    Returns:
        Its name; '' where there is none.
    """
    found = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    return found[-1] if found else ""


def shapes_index() -> dict[str, dict[str, list[str]]]:
    """Compute what `torchvision_shapes.json` keeps.

    Returns:
        By the name of the classification layer and the signature without it, torchvision's names.
    """
    from torchvision import models

    found: dict[str, dict[str, list[str]]] = {}
    for name in sorted(models.list_models(models)):
        network = _outlined(name)
        layer = last_linear(network)
        entries = found.setdefault(layer, {})
        entries.setdefault(signature(network.state_dict(), layer), []).append(name)
    return found


def _outlined(name: str) -> nn.Module:
    from torchvision import models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about how weights are begun with
        try:
            with torch.device("meta"):
                return models.get_model(name, weights=None)
        except NotImplementedError:  # a constructor that looks at numbers
            return models.get_model(name, weights=None)
