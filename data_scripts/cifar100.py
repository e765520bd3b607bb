"""Fetch CIFAR-100, verify it and lay it out as <root>/cifar-100-python, torchvision's layout.

    python data_scripts/cifar100.py [--root FOLDER] [--check]

CIFAR-100, A. Krizhevsky, 2009; no licence is stated. 169 MB to fetch, 186 MB on disk: a training
file of 50 000 images and a test file of 10 000.
"""

import sys

from lrsc.cli import data_script


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 if all stands verified at the end, else 1."""
    return data_script("cifar100", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
