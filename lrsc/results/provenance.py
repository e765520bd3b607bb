"""By what a result was made: versions, commit, device, threads."""

import contextlib
import functools
import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import numpy as np

from lrsc.results.path import project_root


def provenance(device, precision: str = "fp32") -> dict:
    """Attributes that say what a result was made with: versions, commit, device, threads.

    packages: versions of the packages that compute, Python first; lock: digest of the checkout's
    requirements.lock; cpu_capability: the vector instructions that torch uses.
    """
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "lrsc_version": importlib.import_module("lrsc").__version__,
        "commit": commit(),
        "torch_version": str(torch.__version__),
        "numpy_version": np.__version__,
        "packages": packages(),
        "lock": _lock(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": device.type,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "precision": precision,
    }


@functools.cache
def packages() -> str:
    """Versions of Python and of the packages whose code computes a result."""
    names = (
        "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow", "pytorch-optimizer",
        "opt-einsum",
    )  # fmt: skip
    found = [f"python {platform.python_version()}"]
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def _lock() -> str:
    path = project_root() / "requirements.lock"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


@functools.cache
def commit() -> str:
    """Commit of the checkout that runs, '-dirty' if its library was changed since; else empty.

    Looked up once per process: what is committed later is not what the process runs.
    """
    root = project_root()
    if not (root / ".git").exists():
        return ""
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "lrsc"])
    except OSError:
        return ""
    return head.stdout.strip() + ("-dirty" if dirty.returncode else "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
