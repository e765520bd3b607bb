"""Draw miniatures of published image sets and pack them in the published layouts.

    python data_scripts/miniatures.py --output FOLDER [--seed 0] [--unpack] [names ...]

Each becomes FOLDER/miniature-<name>.tar.gz, which unpacks below a data root; --unpack lays them
out in FOLDER as well, which is then a data root itself. They are drawings (birds, faces, shapes on
textures) made by this project, free to use; their results are marked as a stand-in's.
"""

import argparse
import gzip
import io
import sys
import tarfile
import tempfile
from pathlib import Path

from lrsc.datasets.standins import miniatures
from lrsc.files import atomic


def main(argv: list[str] | None = None) -> int:
    """Write the archives; 0, or 1 where one could not be made."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(miniatures.SETS)}; default all")
    parser.add_argument("--output", type=Path, required=True, help="folder of the archives")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--unpack", action="store_true", help="lay them out in --output as well")
    args = parser.parse_args(argv)
    for name in args.names or miniatures.SETS:
        try:
            with tempfile.TemporaryDirectory() as drawn:
                root = args.output if args.unpack else Path(drawn)
                folder = miniatures.make(name, root, seed=args.seed)
                archive = args.output / f"miniature-{name}.tar.gz"
                pack(folder, archive)
        except (ValueError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        print(f"{archive}: {archive.stat().st_size / 1e6:.1f} MB")
    print("Unpack into a data root with: tar -xzf ARCHIVE -C ROOT")
    return 0


def pack(folder: Path, archive: Path) -> None:
    """A .tar.gz of a folder, under its own name: the same content gives the same bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            member = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}")
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as data:
                tar.addfile(member, data)
    with atomic(archive) as part:
        part.write_bytes(gzip.compress(content.getvalue(), mtime=0))


if __name__ == "__main__":
    sys.exit(main())
