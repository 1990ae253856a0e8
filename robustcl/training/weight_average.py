"""Average the weights of a network over the steps of its training."""

from dataclasses import replace

import torch
from torch import nn

from robustcl.training.start_run import TrainingRun


@torch.no_grad()
def step_average(average: nn.Module, model: nn.Module, *, decay: float, steps: int) -> None:
    """Take the weights after a step into their exponential moving average.

    The average is that of the weights after steps 1 to t with weights decay^(t - s): the fresh
    weights of step 0 are not in it. BatchNorm's statistics are averaged as weights are.

    Args:
        average: A copy of the network; it holds the average and changes.
        model: The network after its step.
        decay: In (0, 1).
        steps: t, the steps so far with this one.

    Reference:
        Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017, equation 1, with
        the bias correction of Kingma and Ba, Adam, ICLR 2015, section 3.
    """
    share = (1.0 - decay) / (1.0 - decay**steps)
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, share)
        else:
            mean.copy_(value)


def averaged(run: TrainingRun) -> TrainingRun:
    """Return the run as it is measured: with the average in place of the weights.

    Args:
        run: The run.

    Returns:
        The run itself where it keeps no average.
    """
    if run.average is None:
        return run
    encoder = run.average if run.model is run.encoder else run.average.get_submodule("0")
    return replace(run, model=run.average, encoder=encoder)
