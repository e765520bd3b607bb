"""Verify ImageNet's archives and lay them out as <root>/imagenet/{train,val}/<wnid>.

    python data_scripts/imagenet.py [--root FOLDER] [--check]

ImageNet (ILSVRC 2012), O. Russakovsky et al., 2015; non-commercial research only, with an account.
155 GB of archives, as much again unpacked: 1 281 167 training and 50 000 validation images. Put
ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz into
<root>/imagenet; each split is laid out when its archives are there. They are not removed.
"""

import sys

from lrsc.cli import data_script


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 if all stands verified at the end, else 1."""
    return data_script("imagenet", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
