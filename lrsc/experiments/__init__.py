"""The paper's figures and tables as named lists of runs in three profiles."""

from lrsc.experiments.open import *  # noqa: F403
