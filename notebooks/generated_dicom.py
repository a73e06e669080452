"""Write a generated image as a DICOM series, in place of one from a scanner."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CLASSES = {"PT": "1.2.840.10008.5.1.4.1.1.128", "CT": "1.2.840.10008.5.1.4.1.1.2"}
DOSE, WEIGHT, HALF_LIFE = 370e6, 70.0, 6586.2  # Bq, kg, s (F-18)
UPTAKE_S = 3600


def write_series(folder, image, modality):
    """One file a slice: CT in HU, PET in Bq/mL with all that SUV needs."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    array, slope = np.asarray(image.array, float), 1.0
    if modality == "PT":
        injected = DOSE * 0.5 ** (UPTAKE_S / HALF_LIFE)  # at the start of the scan
        array = array * injected / (1000 * WEIGHT)  # Bq/mL of an SUV
        slope = array.max() / 32000
    series, frame = generate_uid(), generate_uid()
    for number, plane in enumerate(np.rint(array / slope).astype("<i2")):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = CLASSES[modality], generate_uid()
        ds.Modality, ds.PatientID = modality, "GENERATED"
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID = series, frame
        for name, value in {**_place(image, number), **_scan(modality)}.items():
            setattr(ds, name, value)
        ds.Rows, ds.Columns = plane.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
        ds.PixelRepresentation = 1
        ds.RescaleSlope, ds.RescaleIntercept = f"{slope:.9g}", "0"
        ds.add_new("PixelData", "OW", plane.tobytes())
        ds.save_as(folder / f"{number:03}.dcm", enforce_file_format=True)


def _place(image, number):
    """Position and orientation of a slice."""
    g = image.geometry
    z, y, x = g.spacing
    axes = np.eye(3)
    return {
        "InstanceNumber": number + 1,
        "ImagePositionPatient": [f"{v:.6f}" for v in g.world((number, 0, 0))],
        "ImageOrientationPatient": [*axes[0], *axes[1]],
        "PixelSpacing": [y, x],
        "SliceThickness": z,
    }


def _scan(modality):
    """What the scanner says; injected at 10:00, scanned at 11:00."""
    if modality == "CT":
        return {}
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = DOSE, HALF_LIFE
    drug.RadiopharmaceuticalStartTime = "100000"
    drug.RadiopharmaceuticalStartDateTime = "20200101100000"
    drug.Radiopharmaceutical = "FDG"
    return {
        "Units": "BQML",
        "DecayCorrection": "START",
        "CorrectedImage": ["NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"],
        "PatientWeight": WEIGHT,
        "SeriesDate": "20200101",
        "SeriesTime": "110000",
        "AcquisitionDate": "20200101",
        "AcquisitionTime": "110000",
        "FrameReferenceTime": 150000,
        "ActualFrameDuration": 300000,
        "RadiopharmaceuticalInformationSequence": [drug],
    }
