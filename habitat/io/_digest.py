"""Sha256 of a source without decoding its pixels; equal to what `read` records."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from habitat.errors import DicomError, HabitatWarning
from habitat.image import Image
from habitat.io._files import file_hash, from_simpleitk, is_detached, read_file
from habitat.io._masks import _mask_file
from habitat.io._sources import is_dicom

if TYPE_CHECKING:
    from habitat.io._sources import ChannelLike


def source_hash(source: ChannelLike, modality: str | None = None) -> str:
    """Sha256 that `read` would record of an image, or that of what is in memory.

    Parameters
    ----------
    source : path, SimpleITK.Image, Image or array
        In memory the type, shape, grid, unit and voxels are hashed; an Image that was
        read from a file is hashed too, as its voxels may have been changed since.
    modality : str, optional
        "CT" or "PT", of a DICOM folder that holds several series.

    Raises
    ------
    HabitatError
        If there is no such file, or the folder has no one series of that modality.

    Notes
    -----
    Files are read as they are stored. Only voxels that stand in another file than
    their header (.mhd, .nhdr) are decoded, as `read` hashes what they decode to.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _of_memory(source)
    path = Path(source).expanduser()
    with warnings.catch_warnings():  # `read` says them
        warnings.simplefilter("ignore", HabitatWarning)
        if is_dicom(path):
            return _of_dicom(path, modality)
        if path.is_file() and not is_detached(path):
            return file_hash(path)
        return str((read_file(path).source or {})["sha256"])


def mask_hash(source: ChannelLike) -> str:
    """Sha256 that `read_mask` would record, or that of what is in memory."""
    if not isinstance(source, (str, os.PathLike)):
        return _of_memory(source)
    path = _mask_file(Path(source))
    return file_hash(path) if is_dicom(path) else source_hash(path)


def _of_dicom(path: Path, modality: str | None) -> str:
    from habitat.io._dicom import choose_series, series_hash

    if path.is_dir():
        return series_hash(choose_series(path, modality))
    try:
        return series_hash(choose_series(path))
    except DicomError:  # RTSTRUCT or SEG
        return file_hash(path)


def _of_memory(source: sitk.Image | Image | npt.NDArray[np.generic]) -> str:
    image = from_simpleitk(source) if isinstance(source, sitk.Image) else source
    array = np.asarray(image.array if isinstance(image, Image) else image)
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    if isinstance(image, Image):
        digest.update(f" {image.unit} ".encode())
        digest.update(image.geometry.affine.tobytes())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
