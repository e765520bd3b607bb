"""Sweeps: a list of runs -> results on disk, resumable; estimates, campaigns, care of results."""

from lrsc.sweep.again import measure_again
from lrsc.sweep.estimate import estimate, step_seconds
from lrsc.sweep.run import EXECUTORS, WRITERS, Report, run

__all__ = ["EXECUTORS", "WRITERS", "Report", "estimate", "measure_again", "run", "step_seconds"]
