"""Training: `fit`, probes that look at a network along the way, soups, switched learning rates."""

from lrsc.training.engines import ENGINES
from lrsc.training.loop import Trained, fit, fit_each
from lrsc.training.probes import attribution_shares, dynamics, fixed_loss_ratio
from lrsc.training.run import Request
from lrsc.training.soups import greedy_soup, lr_switch, uniform_soup

__all__ = [
    "ENGINES", "Request", "Trained", "attribution_shares", "dynamics", "fit", "fit_each",
    "fixed_loss_ratio", "greedy_soup", "lr_switch", "uniform_soup",
]  # fmt: skip
