"""Training: `fit`, probes that look at a network along the way, soups."""

from lrsc.training.engines.choose import ENGINES
from lrsc.training.fit import Trained, fit, fit_each
from lrsc.training.probes import attribution_shares, dynamics, fixed_loss_ratio, neurons
from lrsc.training.run import Probe, Request
from lrsc.training.soups import uniform_soup

__all__ = [
    "PROBES", "Probe",
    "ENGINES", "Request", "Trained", "attribution_shares", "dynamics", "fit", "fit_each",
    "fixed_loss_ratio", "neurons", "uniform_soup",
]  # fmt: skip

# what a sweep can record along training: name -> function of the data set that makes the probe
PROBES = {"dynamics": dynamics, "attribution": attribution_shares, "neurons": neurons}
