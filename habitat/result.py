"""What a segmentation returns: the habitat map and everything said about it."""

from __future__ import annotations

import base64
import html
import io as _io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_fill_holes

from habitat.case import SUV_UNITS
from habitat.errors import ConfigError, GeometryError, InputError
from habitat.geometry import Box, Floats, Geometry
from habitat.image import Image
from habitat.saving import read_json, write_arrays, write_folder, write_json
from habitat.voxels import depth_mm

if TYPE_CHECKING:
    import pandas as pd
    import SimpleITK as sitk
    from matplotlib.figure import Figure

    from habitat.features._families import Family
    from habitat.features._rings import Rings
    from habitat.io._sources import ImageLike

FORMAT = "habitat.result/1"
RIM_MM = 3.0  # the rim is what lies within 3 mm of the surface
PICTURE = "habitats.png"
FEATURES = "features.csv"
_FILES = ("labels.nii.gz", "images.npz")
WRITTEN = {*_FILES, "labels_mask_grid.nii.gz", "labels.seg.nrrd", "habitats.csv"}
WRITTEN |= {"result.json", PICTURE, FEATURES}


@dataclass(frozen=True, eq=False, repr=False)
class HabitatResult:
    """Habitats of one tumor.

    Habitats 1..k are ordered by the first channel's center. Without a population model
    the habitats of two patients are only ordered alike; they are not the same tissue.

    Attributes
    ----------
    labels : uint8 array of shape (z, y, x)
        Habitat of each voxel of the whole grid, 0 outside the tumor; read-only.
    geometry : Geometry
        Grid of `labels`.
    box : tuple of three slices
        Tumor plus 10 mm, within `labels`.
    images : dict of str to Image
        Channels on `box`, float32, in natural units.
    centers : array of shape (k, channels)
        Mean of each habitat's voxels in the fit (a rim left out is not in it), natural
        units; NaN for an empty habitat.
    posterior : float32 array of shape (k, *box) or None
        Probability of each habitat, for methods that have one; without the smoothing
        of `smoothness`, which `labels` have.
    uncertainty : float32 array of shape box or None
        Entropy of `posterior` divided by ln k.
    quality : dict
        "calinski_harabasz", "davies_bouldin", "silhouette" (of squared Euclidean
        distances) and "explained_variance" of the scaled voxels of the fit; of a fit
        also "objective" (sum of squared distances, of "gmm" the log-likelihood),
        "n_iter", "converged", "structure_p" (of one continuous cloud, see
        `habitat.clustering.structure_p`) and, for k="auto", "choice" with all criteria.
    params : dict
        Every argument with its value, what was resampled and how, versions.
    notes : tuple of str
        What a reader of the map must know, warnings included.
    sources : dict
        Input name to ``{"path", "sha256"}``; for arrays the hash of the part used.
    mask_geometry : Geometry
        Grid of the mask that was given.

    Examples
    --------
    >>> import habitat
    >>> case = habitat.phantom()
    >>> result = habitat.segment(case.pet, case.ct, case.mask, k=4)
    >>> result.table[["habitat", "name"]].shape
    (4, 2)
    """

    labels: npt.NDArray[np.uint8]
    geometry: Geometry
    box: Box
    images: Mapping[str, Image]
    centers: Floats
    posterior: npt.NDArray[np.float32] | None
    uncertainty: npt.NDArray[np.float32] | None
    quality: Mapping[str, Any]
    params: Mapping[str, Any]
    notes: tuple[str, ...]
    sources: Mapping[str, Mapping[str, str]]
    mask_geometry: Geometry

    def __post_init__(self) -> None:
        self._freeze()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._freeze()

    def _freeze(self) -> None:
        for array in (self.labels, self.centers, self.posterior, self.uncertainty):
            if array is not None:
                array.flags.writeable = False

    def __repr__(self) -> str:
        ml = np.count_nonzero(self.labels[self.box]) * self.geometry.voxel_ml
        names = "; ".join(self.names)
        count = f"{self.k} habitat{'s' if self.k > 1 else ''}"
        return f"HabitatResult: {count} of a {ml:.1f} ml tumor ({names})"

    @property
    def k(self) -> int:
        """Number of habitats, empty ones included."""
        return len(self.centers)

    @property
    def names(self) -> tuple[str, ...]:
        """Names such as "H3 SUV 6.1 HU 42": number and centers in natural units.

        Thresholds and a `HabitatModel` add words: "H3 PEThigh-CTlow SUV 6.1 HU 42". Of
        more than 4 channels the first 3 are named.
        """
        terms = self.params.get("terms") or [""] * self.k
        return tuple(
            " ".join(filter(None, [f"H{h}", term, *_values(self.images, center)]))
            for h, (term, center) in enumerate(
                zip(terms, self.centers, strict=True), start=1
            )
        )

    @property
    def depth_mm(self) -> Floats:
        """Distance of each voxel of `box` to the tumor surface, mm; 0 outside."""
        mask = self.labels[self.box] > 0
        lost = np.zeros_like(mask)
        for image in self.images.values():
            if not image.is_map:
                lost |= np.isnan(image.array)
        if lost.any():  # voxels without a value are holes in the map, not in the tumor
            mask |= binary_fill_holes(mask) & lost
        return depth_mm(mask, self.geometry.spacing)

    @property
    def table(self) -> pd.DataFrame:
        """One row per habitat.

        Columns: habitat, name, voxels, volume_ml, fraction, incomplete (voxels without
        a value in some map; no number of that map counts them); for each channel mean,
        sd, min, p10, p50, p90 and max as ``mean_<channel>`` ... in natural units;
        rim_fraction (share of voxels within 3 mm of the tumor surface) and
        mean_depth_mm; mean_uncertainty, where there is one. An empty habitat has volume
        0 and NaN elsewhere.

        Examples
        --------
        >>> import habitat
        >>> case = habitat.phantom()
        >>> result = habitat.segment(case.pet, case.ct, case.mask)
        >>> round(float(result.table["fraction"].sum()), 6)
        1.0
        """
        import pandas as pd

        labels, deep = self.labels[self.box], self.depth_mm
        total = np.count_nonzero(labels)
        lost = np.any([np.isnan(i.array) for i in self.images.values()], axis=0)
        rows = []
        for h, name in enumerate(self.names, start=1):
            own = labels == h
            n = int(np.count_nonzero(own))
            row = {"habitat": h, "name": name, "voxels": n}
            row |= {"volume_ml": n * self.geometry.voxel_ml, "fraction": n / total}
            row["incomplete"] = int(np.count_nonzero(own & lost))
            for channel, image in self.images.items():
                row |= _statistics(image.array[own], channel)
            row["rim_fraction"] = float((deep[own] <= RIM_MM).mean()) if n else np.nan
            row["mean_depth_mm"] = float(deep[own].mean()) if n else np.nan
            if self.uncertainty is not None:
                inside = self.uncertainty[own]
                row["mean_uncertainty"] = float(inside.mean()) if n else np.nan
            rows.append(row)
        table: pd.DataFrame = pd.DataFrame(rows)
        return table

    def on(self, reference: ImageLike | Geometry) -> Image:
        """Labels on another grid, by nearest neighbor; 0 outside this result's grid.

        Parameters
        ----------
        reference : path, SimpleITK.Image, Image or Geometry
            The grid wanted, for example the CT.

        Returns
        -------
        Image
            uint8 labels, unit "habitat".

        Raises
        ------
        GeometryError
            If the two grids do not overlap.

        Examples
        --------
        >>> import habitat
        >>> case = habitat.phantom()
        >>> result = habitat.segment(case.pet, case.ct, case.mask)
        >>> result.on(case.ct).array.shape == case.ct.array.shape
        True
        """
        from habitat.io import read, resample
        from habitat.io._grids import inside

        if isinstance(reference, Geometry):
            target = reference
        else:
            target = read(reference).geometry
        moved = resample(self._label_image(), target)
        valid = inside(self.geometry, target)
        array = moved.array if valid is None else np.where(valid, moved.array, 0)
        return Image(array.astype(np.uint8, copy=False), target, unit="habitat")

    def extract(
        self,
        images: Mapping[str, ImageLike] | None = None,
        *,
        families: Sequence[str | Family] | None = None,
        spacing: float | Sequence[float] | str | None = "auto",
        settings: Any = None,
        engine: str = "numba",
        min_voxels: int = 64,
        rings: Rings | None = None,
        case_id: str = "case",
    ) -> pd.DataFrame:
        """Features of the tumor and its habitats; see `habitat.extract`.

        Parameters
        ----------
        images, families, spacing, settings, engine, min_voxels, rings, case_id
            As in `habitat.extract`.

        Returns
        -------
        DataFrame
            One row per feature.

        Examples
        --------
        >>> import habitat
        >>> p = habitat.phantom(radius_mm=12, margin_mm=15)
        >>> result = habitat.segment(p.pet, p.ct, p.mask, k=2)
        >>> table = result.extract(families=("composition", "diversity"))
        >>> table.loc[table["feature"] == "hill_0", "value"].item()
        2.0
        """
        from habitat.features import extract

        table: pd.DataFrame = extract(
            self,
            images,
            families=families,
            spacing=spacing,
            settings=settings,
            engine=engine,
            min_voxels=min_voxels,
            rings=rings,
            case_id=case_id,
        )
        return table

    def plot(self) -> Figure:
        """Draw all channels and a fused overlay with habitat contours, in three planes.

        Returns
        -------
        matplotlib.figure.Figure
            Axial, coronal and sagittal rows through the tumor.

        Examples
        --------
        >>> import habitat
        >>> case = habitat.phantom()
        >>> result = habitat.segment(case.pet, case.ct, case.mask)
        >>> figure = result.plot()
        >>> figure.savefig("habitats.png")  # doctest: +SKIP
        """
        from habitat.plotting import plot_result

        labels = Image(self.labels[self.box], self.geometry.crop(self.box))
        figure: Figure = plot_result(self.images, labels, names=self.names)
        return figure

    def report(
        self, path: str | os.PathLike[str], *, case_id: str = "tumor", about: str = ""
    ) -> Path:
        """Write an offline HTML report; see `habitat.report`.

        Parameters
        ----------
        path : path
            The HTML file.
        case_id : str
            Title.
        about : str
            Words under the title.

        Returns
        -------
        pathlib.Path
            The file.
        """
        import habitat  # reports know results, not the other way round

        out: Path = habitat.report(self, path, case_id=case_id, about=about)
        return out

    def to_simpleitk(self) -> sitk.Image:
        """Labels as a SimpleITK image (uint8, LPS).

        Examples
        --------
        >>> import habitat
        >>> case = habitat.phantom()
        >>> result = habitat.segment(case.pet, case.ct, case.mask)
        >>> result.to_simpleitk().GetSize() == result.labels.shape[::-1]
        True
        """
        from habitat.io._files import to_simpleitk

        return to_simpleitk(self._label_image())

    def save_dicom_seg(
        self, path: str | os.PathLike[str], series: str | os.PathLike[str]
    ) -> Path:
        """Write the habitats as a DICOM SEG, for a PACS or a viewer.

        Parameters
        ----------
        path : path
            File to write, ending in ``.dcm``; an earlier one is replaced.
        series : path
            DICOM folder of the image that the segments are shown on, such as the CT.
            Patient, study and frame of reference are taken from it, and labels are
            brought to its grid by nearest neighbor.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        InputError
            If highdicom (extra ``dicom``) is not installed.
        DicomError
            If the series cannot be read.
        GeometryError
            If the tumor does not lie within the series, or the images were acquired in
            another frame of reference.

        Notes
        -----
        One binary segment a habitat, with its name, color and the code of a mass (SCT
        4147007), algorithm "habitat" (cluster analysis). The patient is the one of the
        series, by name: the file is for the same archive.

        Examples
        --------
        >>> result.save_dicom_seg("habitats.dcm", "dicom/CT")  # doctest: +SKIP
        """
        from habitat.io._dicom import choose_series
        from habitat.io._dicom_seg import check_within, write_dicom_seg
        from habitat.plotting import habitat_colors
        from habitat.saving import whole_file

        out = Path(path).expanduser().absolute()
        if out.suffix.lower() != ".dcm":
            raise ConfigError(f"must end in .dcm, got {out.name}", "`path`")
        folder = Path(series).expanduser()
        found = choose_series(folder)
        self._check_frame(found.frame_uid, str(folder))
        check_within(self._label_image(), found.geometry, str(folder))
        labels = self.on(found.geometry)
        colors, version = habitat_colors(self.k), self.params["versions"]["habitat"]
        with whole_file(out) as part:
            write_dicom_seg(part, labels, self.names, colors, found, version)
        return out

    def _check_frame(self, frame: str, where: str) -> None:
        """Refuse a series that was acquired in another frame of reference."""
        own = [h.get("frame_of_reference_uid") for h in self._headers.values()]
        known = [uid for uid in own if uid]
        if frame and known and frame not in known:
            what = "is in another frame of reference than the images of the map"
            raise GeometryError(what, where, "give a series of the same study")

    @property
    def _headers(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.params["headers"]
        return found

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the result in open formats; all of it or nothing.

        Writes ``labels.nii.gz``, ``labels_mask_grid.nii.gz`` (on the mask's grid),
        ``labels.seg.nrrd`` (opens in 3D Slicer with names and colors), ``images.npz``,
        ``habitats.csv`` and ``result.json``. The same result gives the same bytes.

        Parameters
        ----------
        folder : path
            Made if it does not exist. An earlier result in it is replaced; a folder
            with anything else is refused.

        Returns
        -------
        pathlib.Path
            The folder.

        Raises
        ------
        InputError
            If the folder holds other files or cannot be written.

        Examples
        --------
        >>> import habitat
        >>> case = habitat.phantom()
        >>> result = habitat.segment(case.pet, case.ct, case.mask)
        >>> import tempfile
        >>> folder = result.save(tempfile.mkdtemp() + "/case_01")
        >>> habitat.HabitatResult.load(folder).names == result.names
        True
        """
        return write_folder(folder, self.write_into, WRITTEN)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> HabitatResult:
        """Read a result that `save` wrote; equal to the saved one in every part.

        Raises
        ------
        InputError
            If the folder is not a saved result, or a file in it was changed.

        Examples
        --------
        >>> HabitatResult.load("case_01").table  # doctest: +SKIP
        """
        return _load(cls, Path(folder).expanduser())

    def _repr_html_(self) -> str:
        file = _io.BytesIO()
        self.plot().savefig(file, format="png", dpi=150, bbox_inches="tight")
        picture = base64.b64encode(file.getvalue()).decode()
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        columns = ["name", "voxels", "volume_ml", "fraction", "rim_fraction"]
        return (
            f"<p>{html.escape(repr(self))}</p>"
            f'<img alt="habitats" width="640" src="data:image/png;base64,{picture}">'
            f"{self.table[columns].round(3).to_html(index=False)}"
            + (f"<ul>{notes}</ul>" if notes else "")
        )

    def _label_image(self) -> Image:
        return Image(self.labels, self.geometry, unit="habitat")

    def write_into(self, folder: Path) -> None:
        """Write all files into a folder that is there already; see `save`."""
        from habitat.io._files import write
        from habitat.io._segmentations import write_seg_nrrd
        from habitat.plotting import habitat_colors

        colors = habitat_colors(self.k)
        labels = self._label_image()
        write(labels, folder / _FILES[0])
        write(self.on(self.mask_geometry), folder / "labels_mask_grid.nii.gz")
        write_seg_nrrd(folder / "labels.seg.nrrd", labels, self.names, colors)
        arrays = {f"channel_{i}": m.array for i, m in enumerate(self.images.values())}
        maps = {"posterior": self.posterior, "uncertainty": self.uncertainty}
        arrays |= {name: array for name, array in maps.items() if array is not None}
        write_arrays(folder / _FILES[1], arrays)
        self.table.to_csv(folder / "habitats.csv", index=False)
        write_json(folder / "result.json", self._to_json(), _FILES)

    def _to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "names": self.names,
            "channels": [
                {"name": c, "unit": i.unit, "map": i.meta.get("map")}
                for c, i in self.images.items()
            ],
            "centers": [[_finite(v) for v in c] for c in self.centers.tolist()],
            "geometry": _geometry_json(self.geometry),
            "mask_geometry": _geometry_json(self.mask_geometry),
            "box": [[s.start, s.stop] for s in self.box],
            "quality": dict(self.quality),
            "params": dict(self.params),
            "notes": self.notes,
            "sources": {name: dict(s) for name, s in self.sources.items()},
        }


def _values(images: Mapping[str, Image], center: Floats) -> list[str]:
    if np.isnan(center).any():
        return ["(empty)"]
    texts = list(map(_center_text, images.items(), center))
    return texts if len(texts) <= 4 else [*texts[:3], "..."]


def _center_text(item: tuple[str, Image], value: float) -> str:
    channel, image = item
    if image.unit == "HU" and not image.is_map:
        return f"{channel} {value:.0f}".replace(" -0", " 0")
    short = "SUV" if channel in SUV_UNITS else channel
    if image.is_map:
        return f"{short} {value:.3g}"
    return f"{short} {value:.1f}" if abs(value) < 1000 else f"{short} {value:.4g}"


def _statistics(values: npt.NDArray[Any], channel: str) -> dict[str, float]:
    names = ("mean", "sd", "min", "p10", "p50", "p90", "max")
    x = values[np.isfinite(values)].astype(np.float64)
    if x.size == 0:
        return {f"{name}_{channel}": float("nan") for name in names}
    quantiles = np.percentile(x, (0, 10, 50, 90, 100))
    numbers = (x.mean(), x.std(), *quantiles)
    return {f"{n}_{channel}": float(v) for n, v in zip(names, numbers, strict=True)}


def _finite(value: float) -> float | None:
    """NaN as null: JSON has no other way to say it."""
    return value if math.isfinite(value) else None


def _geometry_json(geometry: Geometry) -> dict[str, Any]:
    return {"shape": geometry.shape, "affine_zyx_to_lps": geometry.affine.tolist()}


def _geometry_from(data: Mapping[str, Any]) -> Geometry:
    return Geometry(tuple(data["shape"]), np.array(data["affine_zyx_to_lps"]))


def _channel(array: npt.NDArray[Any], crop: Geometry, data: Any) -> Image:
    made = {"map": data["map"]} if data.get("map") is not None else {}
    return Image(array, crop, unit=data["unit"], meta=made)


def _load(cls: type[HabitatResult], folder: Path) -> HabitatResult:
    from habitat.io._files import read_file

    data = read_json(folder / "result.json", FORMAT, _FILES, InputError)
    return _from_json(cls, data, read_file(folder / _FILES[0]).array, folder)


def _from_json(
    cls: type[HabitatResult],
    data: Mapping[str, Any],
    labels: npt.NDArray[np.uint8],
    folder: Path,
) -> HabitatResult:
    geometry = _geometry_from(data["geometry"])
    z, y, x = (slice(*ends) for ends in data["box"])
    crop = geometry.crop((z, y, x))
    with np.load(folder / _FILES[1], allow_pickle=False) as arrays:
        images = {
            c["name"]: _channel(arrays[f"channel_{i}"], crop, c)
            for i, c in enumerate(data["channels"])
        }
        maps = {m: arrays.get(m) for m in ("posterior", "uncertainty")}
    return cls(
        labels=labels.copy(),
        geometry=geometry,
        box=(z, y, x),
        images=images,
        centers=np.array(data["centers"], dtype=np.float64),
        quality=data["quality"],
        params=data["params"],
        notes=tuple(data["notes"]),
        sources=data["sources"],
        mask_geometry=_geometry_from(data["mask_geometry"]),
        **maps,
    )
