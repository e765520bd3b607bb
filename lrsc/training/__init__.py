"""Training: `fit`, probes that look at a network along the way, soups, switched learning rates."""

from lrsc.training.loop import Trained, fit
from lrsc.training.probes import attribution_shares, dynamics, fixed_loss_ratio
from lrsc.training.soups import greedy_soup, lr_switch, uniform_soup

__all__ = [
    "Trained", "attribution_shares", "dynamics", "fit", "fixed_loss_ratio", "greedy_soup",
    "lr_switch", "uniform_soup",
]  # fmt: skip
