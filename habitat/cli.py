"""The command line; every command calls one function of the package."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from habitat.errors import ConfigError, HabitatError, HabitatWarning

if TYPE_CHECKING:
    from habitat.result import HabitatResult

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help costs 0.4 s of CPU time
    help="Tumor habitats from PET/CT. For research use only.",
)
_USAGE, _FAILED = 2, 3

ImageFile = Annotated[str, typer.Argument(help="NIfTI, NRRD, MHA or DICOM folder")]
MaskFile = Annotated[
    str, typer.Argument(help="the same, or RTSTRUCT / SEG / .seg.nrrd")
]
Count = Annotated[int, typer.Option("-k", help="number of habitats, 2 to 20")]
Number = Annotated[str, typer.Option("-k", help="2 to 20, or auto")]
Out = Annotated[Path, typer.Option("-o", "--out", help="folder to write to")]


@app.command()
def demo(out: Out = Path("habitat_demo"), k: Count = 4) -> None:
    """Segment the generated samples and write results and pictures."""
    from habitat.demo import run
    from habitat.result import PICTURE

    results = run(out, k=k)
    first = next(iter(results))
    _show(results[first], out / first)
    typer.echo(f"\nAll {len(results)} generated cases are in {out.resolve()}")
    typer.echo(f"Look first at {(out / first / PICTURE).resolve()}")


@app.command()
def segment(
    pet: ImageFile,
    ct: ImageFile,
    mask: MaskFile,
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
    label: Annotated[
        str | None, typer.Option(help="structure, by value or name")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="folder of a saved HabitatModel")
    ] = None,
    smoothness: Annotated[float, typer.Option(help="Potts prior, 0 to 2")] = 0.0,
    rim_mm: Annotated[float, typer.Option(help="shell left out of the fit, mm")] = 0.0,
    seed: Annotated[int, typer.Option(help="random_state")] = 0,
) -> None:
    """Split one tumor into habitats by PET and CT."""
    import habitat
    from habitat.result import PICTURE

    result = habitat.segment(
        pet,
        ct,
        mask,
        int(k) if k.isdecimal() else k,
        method=method,
        scaling=scaling,
        grid=float(grid) if _is_number(grid) else grid,
        label=int(label) if label and label.isdecimal() else label,
        model=None if model is None else habitat.HabitatModel.load(model),
        smoothness=smoothness,
        rim_mm=rim_mm,
        random_state=seed,
    )
    folder = result.save(out)
    result.plot().savefig(folder / PICTURE, dpi=150, bbox_inches="tight")
    _show(result, folder)


@app.command()
def doctor() -> None:
    """Show versions, compiler and caches; paste this into a bug report."""
    from habitat._doctor import report

    for name, value in report():
        typer.echo(f"{name:>14}  {value}")


def main() -> None:
    """Run the command line; errors of habitat end as one clear message."""
    warnings.simplefilter("ignore", HabitatWarning)  # they come as notes at the end
    try:
        app()
    except HabitatError as error:
        typer.echo(f"Error: {error}", err=True)
        raise SystemExit(
            _USAGE if isinstance(error, ConfigError) else _FAILED
        ) from None


def _show(result: HabitatResult, folder: Path) -> None:
    columns = ["name", "voxels", "volume_ml", "fraction", "rim_fraction"]
    typer.echo(result.table[columns].round(3).to_string(index=False))
    for note in result.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"Written to {folder.resolve()}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
