"""`python -m lrsc`, as torchrun wants it: `torchrun --nproc-per-node=2 -m lrsc run ...`."""

import sys

from lrsc.cli import main

if __name__ == "__main__":
    sys.exit(main())
