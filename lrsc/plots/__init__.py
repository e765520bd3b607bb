"""Figures, one function a kind: each takes results or data and returns a matplotlib Figure.

A Figure made here is not known to pyplot, so it is freed with its last reference and many of them
raise no warning. Its label holds a sentence for those who cannot see it: ``figure.get_label()``.
All figures are 5 inches wide with text of 10 points or more, which is legible on a phone.
"""

from lrsc.plots.attributions import gallery, paired
from lrsc.plots.curves import normalised_curves, plain_curves, pruning_curves
from lrsc.plots.finding import finding
from lrsc.plots.frame import SMALL, TEXT, WIDTH
from lrsc.plots.mechanism import (
    against_loss_ratio,
    along_training,
    dominance,
    propositions,
    update_response,
)
from lrsc.plots.orders import orders
from lrsc.plots.samples import examples
from lrsc.plots.speed import throughput
from lrsc.plots.spread import accuracy_against_cost, norm_spread, pruning_criteria
from lrsc.plots.tradeoffs import tradeoff
from lrsc.plots.training import attribution_shares
from lrsc.plots.words import (
    HYPERPARAMETERS,
    MAIN,
    NAMES,
    REGIONS,
    STYLES,
    against_value,
    axis_name,
    by_lr,
    caption,
    ends,
    hyperparameter,
    interventions_of,
    is_percent,
    name_of,
    number,
    source,
    style,
    trend,
)

__all__ = [
    "HYPERPARAMETERS", "MAIN", "NAMES", "REGIONS", "SMALL", "STYLES", "TEXT", "WIDTH",
    "accuracy_against_cost", "against_loss_ratio", "against_value", "along_training",
    "attribution_shares", "axis_name",
    "by_lr", "caption", "dominance", "ends", "examples", "finding", "gallery", "hyperparameter",
    "interventions_of", "is_percent", "name_of", "norm_spread", "normalised_curves", "number",
    "orders", "paired", "plain_curves", "propositions", "pruning_criteria",
    "pruning_curves", "source", "style",
    "throughput", "tradeoff", "trend", "update_response",
]  # fmt: skip
