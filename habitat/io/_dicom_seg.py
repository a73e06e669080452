"""DICOM SEG out: named segments on the grid of an image series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from habitat.errors import GeometryError, InputError
from habitat.geometry import Geometry
from habitat.image import Image
from habitat.io import _header as h
from habitat.io._dicom import Series

LABEL = 64  # letters of a segment's name, by the standard
SHORT = 16  # letters of an SH
_MAY_BE_EMPTY = (  # of type 2: some exports leave them out
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber"),
    "ReferringPhysicianName",
)


def write_dicom_seg(
    path: Path,
    labels: Image,
    names: Sequence[str],
    colors: Sequence[tuple[float, float, float]],
    series: Series,
    version: str,
) -> None:
    """Write labels as a DICOM SEG that refers to an image series.

    Parameters
    ----------
    path : Path
        File to write.
    labels : Image, uint8
        Values 0 and 1 to ``len(names)`` on the grid of the series.
    names, colors
        Of each label, the first for value 1; red, green and blue from 0 to 1.
    series : Series
        Patient, study and frame of reference are taken from it.
    version : str
        Of the software.

    Raises
    ------
    InputError
        If highdicom is not installed, or the file cannot be written.
    """
    try:
        import highdicom as hd
        from highdicom.volume import Volume
    except ImportError as error:
        what = "writing a DICOM SEG needs highdicom"
        raise InputError(what, str(path), "pip install tumor-habitat[dicom]") from error
    from pydicom import dcmread

    with h.readable(str(series.folder)):
        sources = [dcmread(file, stop_before_pixels=True) for file in series.files]
        for source in sources:
            for keyword in _MAY_BE_EMPTY:
                source.setdefault(keyword, "")
            for keyword in ("StudyID", "AccessionNumber"):
                if len(source[keyword].value or "") > SHORT:  # as in some exports
                    source[keyword].value = ""
    segments = [
        _segment(number, name, color, version)
        for number, (name, color) in enumerate(zip(names, colors, strict=True), start=1)
    ]
    volume = Volume(
        labels.array.astype(np.uint8),
        labels.geometry.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=series.frame_uid,
    )
    with h.quiet():
        seg = hd.seg.Segmentation(
            sources,
            volume,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=hd.UID(),
            series_number=9000,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="habitat",
            manufacturer_model_name="habitat",
            software_versions=version,
            device_serial_number="0",
            content_label="HABITATS",
            content_description="Tumor habitats, for research use only",
            series_description="Tumor habitats (research)",
        )
        seg.save_as(path)


def _segment(
    number: int, name: str, color: tuple[float, float, float], version: str
) -> Any:
    """Name, code and color of one habitat."""
    import highdicom as hd
    from pydicom.sr.codedict import codes
    from skimage.color import rgb2lab

    lab = rgb2lab(np.array(color, dtype=np.float64)[None, None])[0, 0]
    how = hd.AlgorithmIdentificationSequence(
        "habitat", codes.cid7162.ClusterAnalysis, version
    )
    return hd.seg.SegmentDescription(
        number,
        " ".join(name.split())[:LABEL],
        codes.SCT.MorphologicallyAbnormalStructure,
        hd.sr.CodedConcept("4147007", "SCT", "Mass"),
        hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        how,
        tracking_uid=hd.UID(),
        tracking_id=f"habitat {number}",
        display_color=hd.color.CIELabColor(*map(float, lab)),
    )


def check_within(labels: Image, target: Geometry, where: str) -> None:
    """Raise GeometryError if a voxel of the tumor lies outside a grid."""
    voxels = np.argwhere(labels.array)
    index = target.index(labels.geometry.world(voxels))
    out = ((index < -0.5) | (index > np.array(target.shape) - 0.5)).any(axis=1)
    if out.any():
        what = f"{int(out.sum())} of {len(voxels)} voxels of the tumor lie outside it"
        raise GeometryError(what, where, "give a series that holds the whole tumor")
