"""Fetch Waterbirds and lay it out as <root>/waterbirds/waterbird_complete95_forest2water2.

    python data_scripts/waterbirds.py [--root FOLDER] [--check]

Waterbirds, S. Sagawa, P. W. Koh, T. Hashimoto, P. Liang, 2020, made from CUB-200-2011 and Places;
non-commercial research only. 11 788 images in 200 folders, and metadata.csv. The publisher states
neither size nor digest: the archive must be readable to its end and complete, and its SHA-256 is
then recorded in <root>/checksums.json and checked from then on.
"""

import sys

from lrsc.cli import data_script


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 if all stands verified at the end, else 1."""
    return data_script("waterbirds", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
