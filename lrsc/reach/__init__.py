"""For one's own network: the largest useful learning rate, and an audit of any checkpoint."""

from lrsc.reach.audit import Audit, audit
from lrsc.reach.largest_lr import LargestLR, largest_lr
