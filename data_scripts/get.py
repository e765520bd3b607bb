"""Fetch a published data set, verify it and lay it out below a data root.

    python data_scripts/get.py NAME [--root FOLDER] [--check]

mnist: Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0. 12 MB to fetch, 55 MB on disk: four IDX files
    in <root>/MNIST/raw, torchvision's layout.
cifar10, cifar100: A. Krizhevsky, 2009; no licence is stated. 170 MB to fetch, 186 MB on disk:
    50 000 training and 10 000 test images in the published batches, <root>/cifar-10-batches-py and
    <root>/cifar-100-python, torchvision's layout. Batches of your own in this form are read under
    the name own-cifar10 or own-cifar100, where no file of them is a published one.
celeba: Z. Liu, P. Luo, X. Wang, X. Tang, 2015; non-commercial research only. 1.5 GB, 202 599
    images. img_align_celeba.zip as published (or unpacked, the folder img_align_celeba),
    list_attr_celeba.txt and list_eval_partition.txt go into <root>/celeba by hand: they lie on
    Google Drive, whose daily quota refuses programs more often than not; a browser gets them. As
    Kaggle has them they do as well: lists with .csv, images in img_align_celeba/img_align_celeba.
waterbirds: S. Sagawa, P. W. Koh, T. Hashimoto, P. Liang, 2020, made from CUB-200-2011 and Places;
    non-commercial research only. 11 788 images in 200 folders, and metadata.csv, in
    <root>/waterbirds/waterbird_complete95_forest2water2; where WILDS or group_DRO put them does as
    well, <root>/waterbirds_v1.0 and <root>/waterbird_complete95_forest2water2. The publisher states
    neither size nor digest: the archive must be readable to its end and complete, and its SHA-256
    is then recorded in <root>/checksums.json and checked from then on.
imagenet: ILSVRC 2012, O. Russakovsky et al., 2015; non-commercial research only, with an account.
    155 GB of archives, as much again unpacked: 1 281 167 training and 50 000 validation images.
    Put ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz into
    <root>/imagenet; each split is laid out as <root>/imagenet/{train,val}/<wnid> when its archives
    are there. They are not removed.
"""

import argparse
import sys
from collections.abc import Sequence

from lrsc import cli

NAMES = ("mnist", "cifar10", "cifar100", "celeba", "waterbirds", "imagenet")


def main(argv: Sequence[str] | None = None) -> int:
    """`lrsc data get` or, with --check, `lrsc data check`: 0 if all stands verified, else 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--root", help="data root (default $LRSC_DATA)")
    parser.add_argument("--check", action="store_true", help="verify what is there, fetch nothing")
    args = parser.parse_args(argv)
    where = [] if args.root is None else ["--root", args.root]
    return cli.main(["data", "check" if args.check else "get", args.name, *where])


if __name__ == "__main__":
    sys.exit(main())
