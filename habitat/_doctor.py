"""What a bug report needs to know of an installation."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata

import habitat
from habitat.demo import samples_folder
from habitat.errors import InputError
from habitat.kernels._jit import cache_folder, threads

_REQUIRED = ["numpy", "scipy", "scikit-image", "scikit-learn", "SimpleITK", "numba"]
_REQUIRED += ["matplotlib", "pandas", "pydicom"]
_OPTIONAL = {
    "highdicom": "DICOM SEG masks: pip install 'tumor-habitat[dicom]'",
    "distributed": "cohorts on a cluster: pip install 'tumor-habitat[dask]'",
}


def report() -> list[tuple[str, str]]:
    """Facts about this installation, as (name, value) pairs."""
    rows = [
        ("habitat", habitat.__version__),
        ("python", f"{platform.python_version()} on {platform.platform()}"),
    ]
    rows += [(name, _version(name) or "missing") for name in _REQUIRED]
    rows += [(n, _version(n) or f"absent ({why})") for n, why in _OPTIONAL.items()]
    rows.append(("radiomics", _radiomics()))
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang", "cl"))), None)
    rows.append(("C compiler", compiler or "none (needed to build pyradiomics only)"))
    slow = "none is writable: every process compiles anew (set NUMBA_CACHE_DIR)"
    rows.append(("kernel cache", cache_folder() or slow))
    rows.append(("threads", f"{threads()} of {os.cpu_count()} cores"))
    try:
        rows.append(("samples", str(samples_folder())))
    except InputError as error:
        rows.append(("samples", str(error)))
    return rows


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _radiomics() -> str:
    """Which distribution provides the module `radiomics`."""
    names = ("pyradiomics-bhklab", "pyradiomics")
    found = [f"{name} {version}" for name in names if (version := _version(name))]
    if len(found) == 2:
        return (
            f"{' and '.join(found)}: uninstall pyradiomics, they overwrite each other"
        )
    return found[0] if found else "missing"
