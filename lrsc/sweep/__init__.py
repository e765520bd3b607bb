"""A list of runs -> results on disk, with resume: what is done is never trained again."""

from lrsc.sweep.run import *  # noqa: F403
