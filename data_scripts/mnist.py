"""Fetch MNIST, verify it and lay it out as <root>/MNIST/raw, torchvision's layout.

    python data_scripts/mnist.py [--root FOLDER] [--check]

MNIST, Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0. 12 MB to fetch, 55 MB on disk: four IDX files.
"""

import sys

from lrsc.cli import data_script


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 if all stands verified at the end, else 1."""
    return data_script("mnist", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
