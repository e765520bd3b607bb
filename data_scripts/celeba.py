"""Verify CelebA as it lies in <root>/celeba; says what to fetch by hand, and where to put it.

    python data_scripts/celeba.py [--root FOLDER] [--check]

CelebA, Z. Liu, P. Luo, X. Wang, X. Tang, 2015; non-commercial research only. 1.5 GB, 202 599
images: img_align_celeba.zip as published (or unpacked, the folder img_align_celeba),
list_attr_celeba.txt and list_eval_partition.txt. The files lie on Google Drive, whose daily quota
refuses programs more often than not: a browser gets them.
"""

import sys

from lrsc.cli import data_script


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 if all stands verified at the end, else 1."""
    return data_script("celeba", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
