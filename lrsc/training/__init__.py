"""Training: `fit`, and the probes that look at a network along the way."""

from lrsc.training.loop import Trained, fit
from lrsc.training.probes import fixed_loss_ratio

__all__ = ["Trained", "fit", "fixed_loss_ratio"]
