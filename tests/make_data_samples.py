"""Write data_samples/: twelve generated tumors and their cohort table.

    python tests/make_data_samples.py            # writes data_samples/ anew
    python tests/make_data_samples.py FOLDER

The README.md in data_samples/ says what the cases are and by which rule they are drawn.
"""

import argparse
import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from habitat.image import Image
from habitat.phantoms import Phantom, phantom

FOLDER = Path(__file__).parents[1] / "data_samples"
CASES = 12
SEED = 2026
SITES = {"site-A": 1.0, "site-B": 1.4}  # how noisy the scanner is
ASSAYS = ("22C3", "SP263")


def rows() -> list[dict[str, object]]:
    """How each case is drawn: columns of cohort.csv, then what makes the images."""
    rng = np.random.default_rng(SEED)
    out: list[dict[str, object]] = []
    for i in range(CASES):
        case_id = f"phantom-{i + 1:02d}"
        rest = (0.12 + 0.52 * rng.dirichlet((4, 4, 4, 4)))[:3].round(3)
        shares = (*rest, 1 - rest.sum())
        site = list(SITES)[i % 2]
        tps = np.clip(500 * (shares[3] - 0.22) + 8 * rng.standard_normal(), 0, 100)
        out.append(
            {
                "case_id": case_id,
                **{name: f"{case_id}/{name}.nii.gz" for name in ("pet", "ct", "mask")},
                "group": f"patient-{i + 1:02d}",
                "site": site,
                "pdl1_tps": round(float(tps)),
                "pdl1_assay": ASSAYS[rng.integers(2)],
                "pdl1_specimen": ("biopsy", "resection")[rng.integers(2)],
                "tracer": "FDG",
                "arguments": {
                    "noise": SITES[site],
                    "radius_mm": round(float(rng.uniform(15, 23)), 1),
                    "shares": tuple(float(s) for s in shares),
                    "margin_mm": 20.0,
                    "random_state": SEED + i,
                },
                "suv_factor": float(np.exp(0.15 * rng.standard_normal())),
                "hu_shift": float(8 * rng.standard_normal()),
            }
        )
    return out


def cases() -> Iterator[tuple[dict[str, object], Phantom]]:
    """Each row of cohort.csv and the case that belongs to it."""
    for row in rows():
        made = phantom(**row.pop("arguments"))
        pet = made.pet.array * np.float32(row.pop("suv_factor"))
        ct = made.ct.array + row.pop("hu_shift")
        yield (
            row,
            replace(
                made,
                pet=made.pet.replace(pet),
                ct=made.ct.replace(np.rint(ct).astype(np.int16)),
            ),
        )


def files(case: Phantom) -> dict[str, Image]:
    """Images of a case as they are stored: SUV to 0.01, masks as 0 and 1."""
    pet = np.round(case.pet.array.astype(np.float64), 2).astype(np.float32)
    return {
        "pet": case.pet.replace(pet),
        "ct": case.ct,
        "mask": case.mask.replace(case.mask.array.astype(np.uint8)),
        "truth": case.truth,
    }


def write(image: Image, path: Path) -> None:
    """Write an axis-aligned image with SimpleITK."""
    out = sitk.GetImageFromArray(image.array)
    out.SetSpacing(image.geometry.spacing[::-1])
    out.SetOrigin(image.geometry.affine[:3, 3].tolist())
    sitk.WriteImage(out, str(path), useCompression=True)


def main(folder: Path) -> None:
    """Write every case and cohort.csv into a folder."""
    listed = []
    for row, case in cases():
        place = folder / str(row["case_id"])
        place.mkdir(parents=True, exist_ok=True)
        for name, image in files(case).items():
            write(image, place / f"{name}.nii.gz")
        listed.append(row)
    with (folder / "cohort.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(listed[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(listed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    main(parser.parse_args().folder)
