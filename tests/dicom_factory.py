"""Writes synthetic DICOM series (generated data) for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SOP_CLASSES = {
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
}
# 70 kg, injected at 10:00, scanned at 11:00, stored as Bq/mL at the scan's start
PET_TAGS: dict[str, Any] = {
    "Units": "BQML",
    "DecayCorrection": "START",
    "CorrectedImage": ["NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"],
    "PatientWeight": 70.0,
    "PatientSize": 1.75,
    "PatientSex": "M",
    "SeriesDate": "20200101",
    "SeriesTime": "110000",
    "AcquisitionDate": "20200101",
    "AcquisitionTime": "110000",
    "FrameReferenceTime": 150000.0,
    "ActualFrameDuration": 300000,
    "RadionuclideTotalDose": 368.08e6,
    "RadionuclideHalfLife": 6586.2,
    "RadiopharmaceuticalStartTime": "100000",
    "RadiopharmaceuticalStartDateTime": "20200101100000",
    "Radiopharmaceutical": "FDG",
}


class Written(NamedTuple):
    """What was written, in the order of the array's slices."""

    folder: Path
    series_uid: str
    frame_uid: str
    study_uid: str
    files: list[Path]
    sop_uids: list[str]


def write_series(
    folder: Path,
    array_zyx: Any,
    *,
    modality: str = "PT",
    spacing_zyx: Sequence[float] = (4.0, 4.0, 4.0),
    origin_xyz: Sequence[float] = (0.0, 0.0, 0.0),
    directions: Any = None,
    positions: Sequence[Sequence[float]] | None = None,
    series_uid: str | None = None,
    frame_uid: str | None = None,
    slopes: float | Sequence[float] = 1.0,
    intercept: float = 0.0,
    per_slice: Mapping[str, Sequence[Any]] | None = None,
    private: Mapping[tuple[int, int], tuple[str, Any]] | None = None,
    **tags: Any,
) -> Written:
    """Write one file a slice of stored integers `array_zyx`.

    `directions` are unit LPS vectors of the (z, y, x) axes as columns, `positions`
    overrides the LPS position of every slice. `tags` and `per_slice` take pydicom
    keywords; None leaves the attribute out; radiopharmaceutical ones go into their
    sequence. `private` maps (group, element) to (VR, value).
    """
    array = np.asarray(array_zyx)
    axes = np.eye(3)[:, ::-1] if directions is None else np.asarray(directions)
    steps = np.outer(np.arange(len(array)) * spacing_zyx[0], axes[:, 0])
    where = np.asarray(origin_xyz) + steps if positions is None else positions
    series, frame = series_uid or generate_uid(), frame_uid or generate_uid()
    study = str(tags.pop("StudyInstanceUID", None) or generate_uid())
    slope = np.broadcast_to(np.asarray(slopes, dtype=float), len(array))
    folder.mkdir(parents=True, exist_ok=True)
    files, uids = [], []
    for z, plane in enumerate(array):
        ds = _plane(plane, modality)
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID = series, frame
        ds.StudyInstanceUID = study
        ds.InstanceNumber = z + 1
        ds.ImagePositionPatient = [_ds(v) for v in where[z]]
        ds.ImageOrientationPatient = [_ds(v) for v in (*axes[:, 2], *axes[:, 1])]
        ds.PixelSpacing = [_ds(spacing_zyx[1]), _ds(spacing_zyx[2])]
        ds.SliceThickness = _ds(spacing_zyx[0])
        ds.RescaleSlope, ds.RescaleIntercept = _ds(slope[z]), _ds(intercept)
        own = {k: v[z] for k, v in (per_slice or {}).items()}
        _set(ds, {**(PET_TAGS if modality == "PT" else {}), **tags, **own})
        for tag, (vr, value) in (private or {}).items():
            ds.add_new(tag, vr, value)
        files.append(folder / f"{series[-6:]}_{z:04d}.dcm")
        uids.append(str(ds.SOPInstanceUID))
        ds.save_as(files[-1], enforce_file_format=True)
    return Written(folder, str(series), str(frame), study, files, uids)


def _plane(plane: np.ndarray, modality: str) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = SOP_CLASSES[modality]
    ds.SOPInstanceUID = generate_uid()
    ds.Modality = modality
    ds.PatientName, ds.PatientID = "Generated^Phantom", "GENERATED"
    ds.Rows, ds.Columns = plane.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * plane.dtype.itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(plane.dtype.kind == "i")
    little = plane.astype(plane.dtype.newbyteorder("<")).tobytes()
    ds.add_new("PixelData", "OW", little + b"\0" * (len(little) % 2))
    return ds


def _set(ds: Dataset, tags: Mapping[str, Any]) -> None:
    """Set or (None) remove attributes; radiopharmaceutical ones in their sequence.

    Values that break the standard are written on purpose.
    """
    drug = Dataset()
    for key, value in tags.items():
        inner = key.startswith(("Radiopharm", "Radionuclide"))
        target = drug if inner and not key.endswith("InformationSequence") else ds
        if value is not None:
            with disable_value_validation():
                setattr(target, key, value)
        elif key in target:
            delattr(target, key)
    if len(drug) and "RadiopharmaceuticalInformationSequence" not in tags:
        ds.RadiopharmaceuticalInformationSequence = [drug]


def _ds(value: float) -> str:
    """A decimal string (at most 16 characters) of a number."""
    for digits in range(15, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(value)
