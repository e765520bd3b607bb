"""Result files: one netCDF file a run, written atomically; long-form experiments; dense grids."""

from lrsc.results.table import *  # noqa: F403
