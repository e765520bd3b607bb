"""A trained network -> variables of its result: `lrsc.measure(model, dataset) -> xr.Dataset`."""

from lrsc.measures.measure import (
    SAMPLES,
    Observed,
    accuracy_measures,
    as_dataset,
    attribution_measures,
    by_statistics,
    fixed_samples,
    measure,
    measure_each,
    nothing,
    observe,
    representation_measures,
)
from lrsc.measures.variables import OF_NETWORK, OF_TRAINING, PRUNABILITY, VARIABLES
