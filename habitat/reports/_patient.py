"""The report on one tumor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from habitat.features._relations import relations
from habitat.image import Image
from habitat.plotting import (
    habitat_colors,
    mosaic,
    plot_choice,
    plot_density,
    plot_histograms,
    plot_result,
    plot_uncertainty,
)
from habitat.reports._methods import call_of, methods_text
from habitat.reports._page import (
    Code,
    Facts,
    Page,
    Picture,
    Row,
    Section,
    Status,
    Swatch,
    Table,
    Text,
    cell,
    hex_color,
    picture,
)
from habitat.reports._prediction import Judged
from habitat.result import HabitatResult

SMALL = 64  # voxels: below, texture has no value
SLICES = 9
CONTINUOUS = 0.05  # p of one continuous cloud, above which no structure is claimed
_DPI = 110
_MISSING = "\N{EN DASH}"


def patient_page(
    result: HabitatResult,
    *,
    case_id: str,
    about: str = "",
    judged: Judged | None = None,
    notes: Sequence[str] = (),
) -> Page:
    """Build the page of one tumor.

    Parameters
    ----------
    result : HabitatResult
    case_id : str
        The title; shown as it is.
    about : str
        Words under the title.
    judged : Judged, optional
        What a trained classifier says of it.
    notes : sequence of str
        What is to be read beside the notes of the result.
    """
    parts = [
        Section("answer", "Answer", list(_answer(result, judged))),
        Section("images", "Images", list(_images(result))),
        Section("habitats", "Habitats", list(_habitats(result))),
        Section("values", "Values", list(_values(result))),
        Section("certainty", "Certainty", list(_certainty(result))),
    ]
    if judged is not None:
        beside = [Row([*judged.ranks, *judged.reasons])]
        title = "Beside the training cohort, and why this prediction"
        parts.append(Section("why", title, beside))
    parts.append(Section("input", "Input checks", list(_input(result))))
    parts.append(Section("provenance", "Provenance", list(_provenance(result))))
    said = [
        *result.notes,
        *notes,
        *_small(result),
        *(judged.warnings if judged else ()),
    ]
    warnings = list(dict.fromkeys(said))
    return Page(case_id, _status(result, warnings), warnings, parts, about)


def _status(result: HabitatResult, warnings: Sequence[str]) -> Status:
    """Red: no stable map; amber: anything to read; green: nothing."""
    if result.quality.get("converged") is False or np.isnan(result.centers).all():
        return "red"
    return "amber" if warnings else "green"


def _small(result: HabitatResult) -> list[str]:
    counts = np.bincount(result.labels[result.box].ravel(), minlength=result.k + 1)[1:]
    return [
        f"{name}: {n} voxels, too few for texture"
        for name, n in zip(result.names, counts.tolist(), strict=True)
        if n < SMALL
    ]


def _answer(result: HabitatResult, judged: Judged | None) -> Iterator[Any]:
    shares = result.table["fraction"].to_numpy()
    largest = int(np.argmax(shares))
    ml = result.table["volume_ml"].sum()
    text = (
        f"{result.k} habitats in a tumor of {cell(float(ml))} ml; the largest is "
        f"{result.names[largest]}, {100 * shares[largest]:.0f} % of it."
    )
    yield Text(text, "lead")
    if judged is not None:
        yield Text(judged.answer, "lead")


def _labels(result: HabitatResult) -> Image:
    return Image(result.labels[result.box], result.geometry.crop(result.box))


def _images(result: HabitatResult) -> Iterator[Row]:
    labels = _labels(result)
    figure = plot_result(result.images, labels, names=result.names)
    alt = f"Channels and {result.k} habitats in axial, coronal and sagittal sections"
    caption = (
        "Sections with most of the tumor, in radiological convention (R: the patient's "
        "right, on the left of the page). Contours: habitats."
    )
    planes = picture(figure, alt, caption, dpi=_DPI)
    ground, pet = _ground(result)
    figure = mosaic(
        result.images[ground],
        labels,
        n=SLICES,
        names=result.names,
        pet=None if pet is None else result.images[pet],
    )
    alt = f"{SLICES} axial sections from the lowest to the highest"
    through = picture(figure, alt, "Axial sections through the tumor.", dpi=_DPI)
    yield Row([planes, through], only_print=True)


def _ground(result: HabitatResult) -> tuple[str, str | None]:
    """Channel in gray, and PET over it where there is one."""
    acquired = {c: i.unit or "" for c, i in result.images.items() if not i.is_map}
    pet = next((c for c, unit in acquired.items() if unit.startswith("SUV")), None)
    ct = next((c for c, unit in acquired.items() if unit == "HU"), None)
    if ct is not None:
        return ct, pet
    return pet or next(iter(result.images)), None


def _habitats(result: HabitatResult) -> Iterator[Table]:
    labels, spacing = result.labels[result.box], result.geometry.spacing
    tumor, each = relations(np.ascontiguousarray(labels), result.k, spacing)
    columns = ["habitat", "voxels", "ml", "%"]
    for channel in result.images:
        columns.append(f"{channel} mean (p10 to p90)")
        columns += ["max", "TLG, ml"] if _is_suv(result, channel) else []
    columns += ["in 3 mm rim", "depth, mm", "pieces", ""]
    rows = [
        [*_row(result, place, row), cell(float(each["components"][place])), small]
        for place, row in enumerate(result.table.to_dict("records"))
        for small in ["small" if row["voxels"] < SMALL else ""]
    ]
    yield Table(columns, rows, "Volumes and values on the grid of the map.")
    yield Table(
        [
            "cm\N{SUPERSCRIPT TWO}",
            *(f"H{j}" for j in range(1, result.k + 1)),
            "outside",
        ],
        list(_contacts(tumor, result.k)),
        "Surface that habitats share with each other and with what is outside.",
    )


def _row(result: HabitatResult, place: int, row: Mapping[Any, Any]) -> Iterator[Any]:
    """Cells of one habitat, but for the last two."""
    yield Swatch(row["name"], hex_color(habitat_colors(result.k)[place]))
    yield str(row["voxels"])
    yield cell(row["volume_ml"])
    yield f"{100 * row['fraction']:.1f}"
    for channel in result.images:
        mean, low, high = (cell(row[f"{n}_{channel}"]) for n in ("mean", "p10", "p90"))
        yield f"{mean} ({low} to {high})".replace(" ", "\N{NO-BREAK SPACE}")
        if _is_suv(result, channel):
            yield cell(row[f"max_{channel}"])
            yield cell(row[f"mean_{channel}"] * row["volume_ml"])
    rim = row["rim_fraction"]
    yield _MISSING if np.isnan(rim) else f"{100 * rim:.0f} %"
    yield cell(row["mean_depth_mm"])


def _is_suv(result: HabitatResult, channel: str) -> bool:
    return (result.images[channel].unit or "").startswith("SUV")


def _contacts(tumor: Mapping[str, float], k: int) -> Iterator[list[str]]:
    """Rows of the areas between habitats, in square centimeters."""
    for i in range(1, k + 1):
        row = [f"H{i}"]
        for j in (*range(1, k + 1), "outside"):
            a, b = (i, j) if j == "outside" or i < j else (j, i)
            area = tumor.get(f"border_area_{a}_{b}")
            row.append("" if area is None else cell(area / 100))
        yield row


def _values(result: HabitatResult) -> Iterator[Any]:
    labels = result.labels[result.box]
    channels = list(result.images)
    blocks = []
    if len(channels) > 1:
        x, y = channels[:2]
        cohort = cohort_centers(result.params)
        figure = plot_density(
            result.images[x].array,
            result.images[y].array,
            labels,
            result.centers[:, :2],
            names=result.names,
            units=[_unit(result, c) for c in (x, y)],
            cohort_centers=None if cohort is None else cohort[:, :2],
        )
        alt = f"Voxels by {x} and {y} with the center of each habitat"
        caption = f"Voxels by {x} and {y}; dots: centers of this tumor"
        caption += "." if cohort is None else ", diamonds: of the cohort."
        blocks.append(picture(figure, alt, caption, dpi=_DPI, width="min(100%, 22rem)"))
    shown = {_unit(result, c): result.images[c].array for c in channels[:4]}
    figure = plot_histograms(shown, labels, names=result.names)
    alt = "Histogram of each channel, colored by habitat"
    blocks.append(picture(figure, alt, "Voxels of each channel by habitat.", dpi=_DPI))
    yield Row(blocks)


def cohort_centers(params: Mapping[str, Any]) -> Any:
    """Centers of the population model in natural units, where they are a mean."""
    arguments, learned = params["arguments"], params["learned"]
    scaling, rule = learned["scaling"], learned["rule"]
    known = arguments.get("model") and not arguments.get("patient_shift")
    if not known or scaling["name"] != "Shifted" or "centers" not in rule:
        return None
    scaled = np.asarray(rule["centers"], dtype=float)
    return scaled * scaling["width"] + scaling["shift"]


def _unit(result: HabitatResult, channel: str) -> str:
    unit = result.images[channel].unit
    return f"{channel}, {unit}" if unit and unit != channel else channel


_SCORES = {
    "explained_variance": "variance explained",
    "silhouette": "silhouette (squared distances)",
    "calinski_harabasz": "Calinski-Harabasz index",
    "davies_bouldin": "Davies-Bouldin index",
    "structure_p": "p of one continuous cloud",
    "converged": "converged",
}


def _certainty(result: HabitatResult) -> Iterator[Any]:
    rows = [
        (words, cell(result.quality[name]))
        for name, words in _SCORES.items()
        if name in result.quality
    ]
    blocks: list[Any] = [Facts(rows)]
    if result.uncertainty is not None:
        crop = result.geometry.crop(result.box)
        figure = plot_uncertainty(
            result.images[_ground(result)[0]],
            Image(result.uncertainty, crop),
            _labels(result),
            names=result.names,
        )
        caption = "Entropy of the habitat probabilities, 0 (certain) to 1."
        blocks.append(picture(figure, "Map of uncertainty", caption, dpi=_DPI))
    yield Row(blocks)
    p = result.quality.get("structure_p")
    if p is not None and p > CONTINUOUS:
        yield Text(
            "The voxels may as well be one continuous cloud: the borders between "
            "habitats are conventions of the method."
        )
    if result.quality.get("choice"):
        yield choice_picture(result.quality["choice"])


def choice_picture(choice: Mapping[str, Any]) -> Picture:
    """All criteria by which k was chosen."""
    p = choice["structure_p"]
    values = {n: np.asarray(v, dtype=float) for n, v in choice["values"].items()}
    figure = plot_choice(
        choice["ks"], values, choice["picks"], choice["k"], np.nan if p is None else p
    )
    caption = "Choice of the number of habitats; filled: what a criterion picks."
    return picture(figure, "Criteria by number of habitats", caption, dpi=_DPI)


def _input(result: HabitatResult) -> Iterator[Any]:
    params = result.params
    rows: list[tuple[str, Any]] = [
        ("grid of the map, mm (z, y, x)", _numbers(params["spacing_mm"])),
        ("mask", f"{params['mask']['voxels']} voxels; {params['mask']['rule']}"),
    ]
    for name, channel in params["channels"].items():
        how = f"{_numbers(channel['spacing_mm'])} mm, {channel['interpolation']}"
        smoothing = channel.get("smoothing_sd_mm", ())
        if any(smoothing):
            how += f", smoothed with sd {_numbers(smoothing)} mm"
        rows.append((f"{name} {channel.get('unit') or ''}".strip(), how))
        rows += _suv(name, params.get("headers", {}).get(name, {}))
    yield Facts(rows)


def _suv(name: str, header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What SUV rests on, without dates or names."""
    facts = header.get("suv") or {}
    words = {
        "weight_kg": "weight, kg",
        "dose_bq": "injected dose, Bq",
        "uptake_s": "uptake, s",
        "half_life_s": "half-life, s",
        "units": "stored as",
        "decay_correction": "decay corrected to",
    }
    return [
        (f"{name}: {word}", cell(facts[key], 4))
        for key, word in words.items()
        if facts.get(key) is not None
    ]


def _provenance(result: HabitatResult) -> Iterator[Any]:
    params = result.params
    yield Code(methods_text(params, result.k), "Methods, to paste")
    yield Code(call_of(params, list(params["channels"])), "The call that repeats it")
    hashes = [(name, s["sha256"]) for name, s in result.sources.items()]
    yield Table(["input", "sha256"], hashes, "What it was made of")
    versions = ", ".join(f"{n} {v}" for n, v in params["versions"].items())
    yield Text(versions, "small")


def _numbers(values: Sequence[float]) -> str:
    return " x ".join(f"{v:.3g}" for v in values)


def saved_case(folder: Path) -> tuple[str, tuple[str, ...]]:
    """Name and notes of a saved case: as a batch wrote them, else the folder's name."""
    path = folder / "case.json"
    if not path.is_file():
        return folder.name, ()
    case = json.loads(path.read_text(encoding="utf-8"))
    return str(case["case_id"]), tuple(case["notes"])
