"""Figures, one function per kind: each takes results or data and returns a matplotlib Figure.

A Figure made here is not known to pyplot, so it is freed with its last reference and many of them
raise no warning. Its label holds a description for those who cannot see it: ``figure.get_label()``.
All figures are as wide as a page's text, with text of 10 points or more: legible on a phone.
"""

from lrsc.plots.attributions import gallery, paired
from lrsc.plots.curves import curves, orders, pruning_curves
from lrsc.plots.finding import finding
from lrsc.plots.mechanism import (
    against_loss_ratio,
    along_training,
    attribution_shares,
    dominance,
    propositions,
    update_response,
)
from lrsc.plots.reach import audited_plane, audited_pruning, audited_samples, largest_lr
from lrsc.plots.samples import examples
from lrsc.plots.speed import throughput
from lrsc.plots.spread import accuracy_against_cost, norm_spread, pruning_criteria
from lrsc.plots.tradeoffs import tradeoff
from lrsc.plots.words import (
    HYPERPARAMETERS,
    MAIN,
    STYLES,
    against_value,
    axis_name,
    by_lr,
    caption,
    ends,
    heading,
    hyperparameter,
    interventions_of,
    is_percent,
    mean_and_sd,
    name_of,
    names_of,
    number,
    paper_range,
    row_name,
    rows_of,
    samples_of,
    source,
    style,
    trend,
)
