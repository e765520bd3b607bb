"""The command `lrsc`: data | run | sweep | measure | repro | status | score | results | book."""

from lrsc.cli.main import *  # noqa: F403
