"""The one door for image-like arguments: a path, a SimpleITK image or an `Image`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt
import SimpleITK as sitk

from habitat.errors import InputError
from habitat.image import Image
from habitat.io._files import from_simpleitk, read_file

ImageLike: TypeAlias = "str | os.PathLike[str] | sitk.Image | Image"
ChannelLike: TypeAlias = "ImageLike | npt.NDArray[Any]"
MaskLike: TypeAlias = "ChannelLike | tuple[ChannelLike, ChannelLike]"


def read(source: ImageLike, *, unit: str | None = None) -> Image:
    """Read an image with its geometry.

    Parameters
    ----------
    source : path, SimpleITK.Image or Image
        A NIfTI (.nii, .nii.gz), NRRD or MetaImage file, a DICOM series folder (PET
        comes as SUVbw, CT as HU, see `read_dicom`), or an image in memory.
    unit : str, optional
        Unit of the values, such as "SUVbw" or "HU", where the file does not say it.
        Stating it switches off the checks that guess from the values.

    Returns
    -------
    Image
        Array (z, y, x) in its stored type; `source` holds path and sha256.

    Raises
    ------
    InputError
        If the file is missing, damaged, truncated, four-dimensional or not an image.
    GeometryError
        If its grid is sheared or has no valid spacing.
    DicomError, SUVError
        If a DICOM series is incomplete or its PET cannot be brought to SUV.

    Examples
    --------
    >>> import habitat
    >>> pet = habitat.phantom().pet
    >>> habitat.read(pet).unit
    'SUVbw'
    """
    image = read_any(source)
    if unit is None or unit == image.unit:
        return image
    if image.unit is not None:
        what = f"has unit {image.unit!r} already, not {unit!r}"
        raise InputError(what, name_of(source), "leave `unit` out")
    return image.replace(image.array, unit=unit)


def name_of(source: object) -> str:
    """Words for a source in messages: its path or its type."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, Image) and source.source:
        return source.source["path"]
    return type(source).__name__


def is_dicom(path: Path) -> bool:
    """Whether a path is a folder or a DICOM file."""
    if path.is_dir():
        return True
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise InputError(what, str(path), "check its permissions") from error


def read_any(source: ImageLike, modality: str | None = None) -> Image:
    """Read an image; of a DICOM folder with several series that of the modality."""
    if isinstance(source, Image):
        return source
    if isinstance(source, sitk.Image):
        return from_simpleitk(source)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        if not os.fspath(source):
            raise InputError("is empty", "path", "name a file or folder")
        if is_dicom(path):
            from habitat.io._dicom import read_dicom

            return read_dicom(path, series=modality if path.is_dir() else None)
        return read_file(path)
    what = (
        f"must be a path, SimpleITK.Image or habitat.Image, got {type(source).__name__}"
    )
    fix = "wrap an array with its spacing: habitat.Image(array, spacing=(z, y, x))"
    raise InputError(what, "source", fix)
