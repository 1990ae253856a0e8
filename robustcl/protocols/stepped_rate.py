"""Lower the learning rate in two steps."""

DROPS, SCHEDULE = (15, 20), 25  # the papers' epochs; shorter schedules shrink alike


def stepped_rate(epoch: int, epochs: int) -> float:
    """Return the share of the first learning rate: 1, then .1, then .01.

    Args:
        epoch: Epochs that are over.
        epochs: Epochs in all; the drops come at 15/25 and 20/25 of them.

    Returns:
        The share.
    """
    return 0.1 ** sum(epoch * SCHEDULE >= drop * epochs for drop in DROPS)
