"""Fetch CIFAR-10, verify it and lay it out as <root>/cifar-10-batches-py, torchvision's layout.

    python data_scripts/cifar10.py [--root FOLDER] [--check]

CIFAR-10, A. Krizhevsky, 2009; no licence is stated. 170 MB to fetch, 186 MB on disk: five training
batches and a test batch of 10 000 images each.
"""

import sys

from lrsc.cli import data_script


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 if all stands verified at the end, else 1."""
    return data_script("cifar10", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
