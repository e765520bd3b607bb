"""All measures of one model in one call: `lrsc.measure(model, dataset) -> xr.Dataset`."""

from lrsc.measures.measure import *  # noqa: F403
