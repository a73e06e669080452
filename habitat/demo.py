"""The whole road on the generated samples that come with the package."""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from habitat._progress import track
from habitat.errors import InputError

if TYPE_CHECKING:
    from habitat.result import HabitatResult


def samples_folder() -> Path:
    """Folder of the generated sample cases.

    Raises
    ------
    InputError
        If the samples are not part of this installation.
    """
    package = Path(str(resources.files("habitat")))
    for folder in (package / "data_samples", package.parent / "data_samples"):
        if (folder / "cohort.csv").is_file():
            return folder
    what = "data_samples/cohort.csv is not there"
    raise InputError(what, "sample cases", "install habitat again")


def run(out: Path, *, k: int = 4) -> dict[str, HabitatResult]:
    """Segment every sample case; write a result folder and a picture for each.

    Parameters
    ----------
    out : path
        Folder to write to; earlier results of the demo in it are replaced.
    k : int
        Number of habitats.

    Returns
    -------
    dict
        Case id to result.
    """
    from habitat.result import PICTURE
    from habitat.segmentation import segment

    samples = samples_folder()
    with (samples / "cohort.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["case_id"]: row for row in csv.DictReader(file)}
    results = {}
    for case_id in track(list(rows), "Segmenting"):
        paths = [samples / rows[case_id][name] for name in ("pet", "ct", "mask")]
        result = segment(paths[0], paths[1], paths[2], k)
        folder = result.save(out / case_id)
        result.plot().savefig(folder / PICTURE, dpi=150, bbox_inches="tight")
        results[case_id] = result
    return results
