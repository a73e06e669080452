"""The command line; every command calls one function of the package."""

from __future__ import annotations

import io
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Generator, Hashable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from habitat.errors import ConfigError, HabitatError, HabitatWarning

if TYPE_CHECKING:
    import pandas as pd

    from habitat.cohort import BatchResult
    from habitat.image import Image
    from habitat.result import HabitatResult

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help costs 0.4 s of CPU time
    help="Tumor habitats from PET/CT. For research use only.",
)
_SOME, _USAGE, _FAILED, _STOPPED = 1, 2, 3, 130
_SHOWN = 30  # failures on the screen

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="[PET CT] MASK",
        help="NIfTI, NRRD, MHA or DICOM folder; the mask also RTSTRUCT, SEG, .seg.nrrd",
    ),
]
Count = Annotated[int, typer.Option("-k", help="number of habitats, 2 to 20")]
Number = Annotated[str, typer.Option("-k", help="2 to 20, or auto")]
Out = Annotated[Path, typer.Option("-o", "--out", help="folder to write to")]
Table = Annotated[
    Path,
    typer.Argument(metavar="COHORT.CSV", help="one row a case: case_id, pet, ct, mask"),
]
Jobs = Annotated[int | None, typer.Option(help="worker processes; else all cores")]
Dask = Annotated[str | None, typer.Option(help="address of a Dask scheduler")]


@app.command()
def demo(out: Out = Path("habitat_demo"), k: Count = 4) -> None:
    """Go from generated samples to habitats, features, a classifier and a report."""
    from habitat.demo import run

    page = run(out, k=k)
    typer.echo(f"All results on the generated cases are in {out.resolve()}")
    typer.echo(f"Look first at {page.resolve()}")


@app.command()
def segment(
    images: Inputs,
    out: Out,
    phase: Annotated[
        list[str] | None,
        typer.Option(help="CT in place of PET CT, as arterial=FILE; several"),
    ] = None,
    register: Annotated[
        str | None, typer.Option(help="of phases: rigid, affine, bspline, none")
    ] = None,
    texture: Annotated[
        bool, typer.Option("--texture", help="add texture maps of the CT")
    ] = False,
    prune: Annotated[
        float | None, typer.Option(help="drop maps of |Spearman| from here, as 0.7")
    ] = None,
    k: Number = "4",
    method: Annotated[str, typer.Option(help="kmeans, gmm, otsu, supervoxel")] = (
        "kmeans"
    ),
    scaling: Annotated[
        str, typer.Option(help="zscore, log, robust, window, rank, none")
    ] = "zscore",
    grid: Annotated[
        str, typer.Option(help="coarsest, mask, pet, ct or mm")
    ] = "coarsest",
    label: Annotated[
        str | None, typer.Option(help="structure, by value or name")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="folder of a saved HabitatModel")
    ] = None,
    smoothness: Annotated[float, typer.Option(help="Potts prior, 0 to 2")] = 0.0,
    rim_mm: Annotated[float, typer.Option(help="shell left out of the fit, mm")] = 0.0,
    seed: Annotated[int, typer.Option(help="random_state")] = 0,
    features: Annotated[
        bool, typer.Option("--features", help="write features.csv: radiomics and more")
    ] = False,
) -> None:
    """Split one tumor into habitats by PET and CT, or by maps of contrast phases."""
    import habitat
    from habitat.result import FEATURES, PICTURE
    from habitat.saving import write_table

    structure = int(label) if label and label.isdecimal() else label
    channels, mask = _channels(images, phase or [], register, texture, prune, structure)
    result = habitat.segment_channels(
        channels,
        mask,
        int(k) if k.isdecimal() else k,
        method=method,
        scaling=scaling,
        grid=float(grid) if _is_number(grid) else grid,
        label=structure,
        model=None if model is None else habitat.HabitatModel.load(model),
        smoothness=smoothness,
        rim_mm=rim_mm,
        random_state=seed,
    )
    folder = result.save(out)
    result.plot().savefig(folder / PICTURE, dpi=150, bbox_inches="tight")
    if features:
        table = result.extract(channels, case_id=folder.name)
        write_table(folder / FEATURES, table)
    _show(result, folder)
    for note in table.attrs["notes"] if features else ():
        typer.echo(f"note on features: {note}")


@app.command()
def check(
    table: Table,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="write them to .csv or .json")
    ] = None,
) -> None:
    """List what is wrong with a cohort's table and files; no pixel is read."""
    import habitat

    if out is not None and out.suffix not in (".csv", ".json"):
        raise ConfigError(f"must end in .csv or .json, got {out.name}", "--out")
    problems = habitat.check_cohort(table)
    errors = problems[problems["level"] == "error"]
    for problem in problems.to_dict("records"):
        typer.echo(_printable(_problem(problem)))
    typer.echo(f"{len(errors)} errors, {len(problems) - len(errors)} warnings")
    if out is not None:
        _write_problems(problems, out)
    if len(errors):
        raise typer.Exit(_SOME)


@app.command()
def batch(
    table: Table,
    out: Out,
    k: Annotated[str | None, typer.Option("-k", help="2 to 20, or auto; else 4")] = (
        None
    ),
    model: Annotated[
        Path | None, typer.Option(help="folder of a saved HabitatModel")
    ] = None,
    families: Annotated[
        str | None, typer.Option(help="of features, as shape,radiomics")
    ] = None,
    jobs: Jobs = None,
    resume: Annotated[
        bool | None,
        typer.Option("--resume/--no-resume", help="leave alone what is done already"),
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="seconds for a case")] = None,
    dask: Dask = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML with these and all other options")
    ] = None,
) -> None:
    """Segment all cases of a table and extract their features; survive bad ones."""
    from habitat.cohort import batch as run
    from habitat.cohort import batch_options, read_cohort

    given = {
        "k": int(k) if k and k.isdecimal() else k,
        "model": model,
        "families": families.split(",") if families else None,
        "jobs": jobs,
        "resume": resume,
        "timeout": timeout,
        "dask": dask,
    }
    cases = read_cohort(table)
    with _stoppable():
        result = run(cases, out, **batch_options(given, config))
    _show_batch(result)
    raise typer.Exit(result.exit_code)


@app.command()
def fit(
    table: Table,
    out: Out,
    k: Number = "4",
    method: Annotated[str, typer.Option(help="kmeans, gmm, otsu, supervoxel")] = (
        "kmeans"
    ),
    scaling: Annotated[
        str, typer.Option(help="zscore, log, robust, window, rank, none")
    ] = "zscore",
    grid: Annotated[
        str, typer.Option(help="coarsest, mask, pet, ct or mm")
    ] = "coarsest",
    smoothness: Annotated[float, typer.Option(help="Potts prior, 0 to 2")] = 0.0,
    rim_mm: Annotated[float, typer.Option(help="shell left out of the fit, mm")] = 0.0,
    patient_shift: Annotated[
        bool, typer.Option("--patient-shift", help="take out differences of patients")
    ] = False,
    seed: Annotated[int, typer.Option(help="random_state")] = 0,
    jobs: Jobs = None,
    dask: Dask = None,
) -> None:
    """Learn one definition of habitats from the training cases of a table."""
    from habitat.cohort import fit_cohort, read_cohort

    with _stoppable():
        result = fit_cohort(
            read_cohort(table),
            out,
            int(k) if k.isdecimal() else k,
            method=method,
            scaling=scaling,
            grid=float(grid) if _is_number(grid) else grid,
            smoothness=smoothness,
            rim_mm=rim_mm,
            patient_shift=patient_shift,
            random_state=seed,
            jobs=jobs,
            client=dask,
        )
    for note in result.notes:
        typer.echo(_printable(f"note: {note}"))
    _show_failures(result.failures)
    typer.echo(f"Written to {result.out}")
    raise typer.Exit(result.exit_code)


@app.command()
def train(
    source: Annotated[
        Path, typer.Argument(help="COHORT.CSV, or the output folder of habitat batch")
    ],
    out: Out,
    outcome: Annotated[str, typer.Option(help="column to predict")] = "pdl1_tps",
    cutoff: Annotated[
        str | None, typer.Option(help="1, or 1,50 for three classes; else 1 for TPS")
    ] = None,
    classifier: Annotated[
        str, typer.Option(help="logistic, forest, extra_trees, svm, boosting")
    ] = "logistic",
    mil: Annotated[
        str | None, typer.Option(help="multi-instance method in place of a classifier")
    ] = None,
    harmonize: Annotated[str | None, typer.Option(help="combat")] = None,
    k: Annotated[
        str | None, typer.Option("-k", help="2 to 20, or auto; else 4")
    ] = None,
    families: Annotated[
        str | None, typer.Option(help="of features, as shape,radiomics")
    ] = None,
    folds: Annotated[int, typer.Option(help="of the cross-validation")] = 5,
    repeats: Annotated[int, typer.Option(help="of the cross-validation")] = 10,
    cv: Annotated[
        str | None, typer.Option(help="split or leave-one-site-out in place of folds")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="folder that keeps features for the next run")
    ] = None,
    seed: Annotated[int, typer.Option(help="random_state")] = 0,
    jobs: Jobs = None,
) -> None:
    """Evaluate a classifier in folds, fit it on all cases and save it."""
    from habitat.classifiers import HabitatClassifier
    from habitat.evaluation import Habitats
    from habitat.mil import MILClassifier
    from habitat.population import HabitatModel
    from habitat.reports import report as write_page
    from habitat.training import train as run

    if mil is not None and (classifier != "logistic" or harmonize is not None):
        raise ConfigError("goes with neither --classifier nor --harmonize", "--mil")
    model = (
        HabitatClassifier(classifier, harmonize=harmonize, random_state=seed)
        if mil is None
        else MILClassifier(mil, random_state=seed)
    )
    habitats = None  # of a batch they are made already
    if (k, families, cache) != (None, None, None):
        number = "4" if k is None else k
        kind = HabitatModel(
            int(number) if number.isdecimal() else number, random_state=seed
        )
        extraction = {"families": families.split(",")} if families else {}
        kept = None if cache is None else str(cache)
        habitats = Habitats(kind, extraction, kept)
    with _stoppable():
        found = run(
            source,
            out,
            outcome=outcome,
            cutoffs=_numbers(cutoff),
            model=model,
            habitats=habitats,
            cv=(folds, repeats) if cv is None else cv,
            jobs=jobs,
            random_state=seed,
        )
    typer.echo(_printable(repr(found.evaluation)))
    for case in found.excluded.head(_SHOWN).itertuples():
        typer.echo(_printable(f"left out: {case.case_id}: {case.reason}"))
    page = write_page(found.out, found.out / "report.html")
    typer.echo(f"Written to {found.out}")
    typer.echo(f"Look first at {page}")
    raise typer.Exit(found.exit_code)


@app.command()
def predict(
    source: Annotated[
        Path, typer.Argument(help="COHORT.CSV, or the output folder of habitat batch")
    ],
    model: Annotated[Path, typer.Option(help="folder of habitat train")],
    out: Annotated[Path, typer.Option("-o", "--out", help="CSV to write")],
    jobs: Jobs = None,
) -> None:
    """Predict the classes of new cases with a trained classifier."""
    from habitat.training import predict as run

    with _stoppable():
        found = run(source, model, out, jobs=jobs)
    counts = Counter(found.table["predicted"].dropna())
    typer.echo(_printable(", ".join(f"{n} {name}" for name, n in counts.items())))
    beyond = found.table.get("n_outside")
    if beyond is not None and (beyond > 0).any():
        n = int((beyond > 0).sum())
        typer.echo(f"{n} cases lie beyond the training cases in some feature")
    for case in found.table[found.table["status"] != "done"].itertuples():
        typer.echo(_printable(f"{case.case_id}: {case.status}"))
    typer.echo(f"Written to {found.out}")
    raise typer.Exit(found.exit_code)


@app.command()
def report(
    source: Annotated[
        Path,
        typer.Argument(help="folder of a result, of habitat batch or habitat train"),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="HTML to write")],
    model: Annotated[Path | None, typer.Option(help="folder of habitat train")] = None,
    case_id: Annotated[str | None, typer.Option(help="title of one tumor")] = None,
    patients: Annotated[
        bool, typer.Option("--patients", help="of a batch: a report of each case, too")
    ] = False,
    view: Annotated[
        bool, typer.Option("--view", help="of one tumor: also a file to look through")
    ] = False,
    about: Annotated[str, typer.Option(help="words under the title")] = "",
) -> None:
    """Write a report on a tumor or a cohort: one HTML file that needs no network."""
    from habitat.reports import report as run

    path = run(
        source,
        out,
        case_id=case_id,
        model=model,
        patients=patients,
        view=view,
        about=about,
    )
    typer.echo(f"Written to {path}")


@app.command()
def doctor() -> None:
    """Show versions, compiler and caches; paste this into a bug report."""
    from habitat._doctor import report as facts

    for name, value in facts():
        typer.echo(f"{name:>14}  {value}")


def main() -> None:
    """Run the command line; errors of habitat end as one clear message."""
    warnings.simplefilter("ignore", HabitatWarning)  # they come as notes at the end
    for stream in (sys.stdout, sys.stderr):  # a pipe may know no Chinese
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except HabitatError as error:
        typer.echo(f"Error: {error}", err=True)
        raise SystemExit(
            _USAGE if isinstance(error, ConfigError) else _FAILED
        ) from None


@contextmanager
def _stoppable() -> Generator[None]:
    """A run that is stopped (Ctrl-C, SIGTERM) says how to go on."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("Stopped; the same command goes on from here.", err=True)
        raise SystemExit(_STOPPED) from None


def _problem(one: Mapping[Hashable, Any]) -> str:
    row = f"row {one['row']}" if one["row"] else "table"
    where = " ".join(filter(None, (row, one["case_id"], one["column"])))
    fix = f"; {one['fix']}" if one["fix"] else ""
    return f"{one['level']}: {where}: {one['message']}{fix}"


def _write_problems(problems: pd.DataFrame, out: Path) -> None:
    from habitat.saving import write_table, write_text

    if out.suffix == ".json":
        write_text(out, problems.to_json(orient="records", indent=1, force_ascii=False))
    else:
        write_table(out, problems)


def _show_batch(result: BatchResult) -> None:
    _show_failures(result.failures)
    for note in result.notes:
        typer.echo(_printable(f"note: {note}"))
    counts = Counter(result.status.values())
    typer.echo(", ".join(f"{n} {status}" for status, n in counts.items()))
    typer.echo(f"Written to {result.out}")


def _printable(text: str) -> str:
    """Text of a table without what steers a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _show_failures(failures: pd.DataFrame) -> None:
    for one in failures.head(_SHOWN).to_dict("records"):
        fix = f"; {one['fix']}" if one["fix"] else ""
        text = f"{one['case_id']}: {one['kind']}: {one['message']}{fix}"
        typer.echo(_printable(text))
    if len(failures) > _SHOWN:
        typer.echo(f"... and {len(failures) - _SHOWN} more in failures.csv")


def _channels(
    images: list[str],
    phases: list[str],
    register: str | None,
    texture: bool,
    prune: float | None,
    label: int | str | None,
) -> tuple[dict[str, Any], str]:
    """What to cluster, and the mask: PET and CT, or maps of phases; and of texture."""
    import habitat

    files = _named(phases)
    if len(images) != (1 if phases else 3):
        wanted = "MASK alone with --phase" if phases else "PET CT MASK"
        raise ConfigError(f"must be {wanted}, got {len(images)} files", "arguments")
    if register and not phases:
        raise ConfigError("is of phases", "--register", "give --phase NAME=FILE")
    if prune is not None and not (texture or phases):
        raise ConfigError("is of maps", "--prune", "give --texture or --phase")
    *pair, mask = images
    if not (texture or phases):
        return dict(zip(("pet", "ct"), pair, strict=True)), mask
    maps: dict[str, Any] = {}
    if phases:
        scans = {n: habitat.read(p, unit="HU") for n, p in files.items()}
        how = register or "rigid"
        if len(scans) > 1 or not texture:  # of a single phase there is texture alone
            maps = habitat.enhancement_maps(scans, mask, register=how, label=label)
    if texture:
        if phases:
            ct = scans[_reference(maps) if maps else next(iter(scans))]
        else:
            ct = habitat.read(pair[1], unit="HU")
        maps |= habitat.texture_maps(ct, mask, label=label)
    if prune is not None:
        from habitat.maps import prune_maps

        maps = prune_maps(maps, mask, threshold=prune, label=label)
    return dict(zip(("SUVbw", "HU"), pair, strict=False)) | maps, mask


def _named(phases: list[str]) -> dict[str, str]:
    """Phase to file."""
    pairs = [text.partition("=") for text in phases]
    named = {name: path for name, _, path in pairs if name and path}
    if len(named) < len(phases):
        what = f"must be NAME=FILE, each name once, got {', '.join(phases)}"
        raise ConfigError(what, "--phase")
    return named


def _reference(maps: dict[str, Image]) -> str:
    """Phase that all others were registered to."""
    return str(next(iter(maps.values())).meta["map"]["reference"])


def _show(result: HabitatResult, folder: Path) -> None:
    columns = ["name", "voxels", "volume_ml", "fraction", "rim_fraction"]
    typer.echo(result.table[columns].round(3).to_string(index=False))
    for note in result.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"Written to {folder.resolve()}")


def _numbers(text: str | None) -> list[float] | None:
    """Cut-offs on the command line."""
    if text is None:
        return None
    parts = text.split(",")
    if not all(map(_is_number, parts)):
        raise ConfigError(f"must be numbers, got {text!r}", "--cutoff", "such as 1,50")
    return [float(part) for part in parts]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
