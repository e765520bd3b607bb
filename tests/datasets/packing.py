"""Archives and published layouts made for a test, and what stands in a folder."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

from lrsc.datasets.standins import miniatures


def packed(files: dict[str, bytes], form: str = "tar.gz") -> bytes:
    """An archive of these files."""
    out = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return out.getvalue()
    with tarfile.open(fileobj=out, mode="w:" + form.removeprefix("tar").removeprefix(".")) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def read(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def published_form(name: str, root: Path) -> Path:
    """root with 40 + 10 + 20 drawn images, rho 0.1, without a miniature's mark and masks."""
    folder = miniatures.make(name, root, n=40, rho=0.1)
    (folder / miniatures.MARK).unlink()
    shutil.rmtree(folder / "masks")
    return root
