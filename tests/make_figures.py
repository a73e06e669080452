"""Draw the pictures of README and gallery: ``python -m tests.make_figures``."""

from pathlib import Path

import numpy as np

import habitat
from habitat import plotting
from habitat.classifiers import HabitatClassifier, nomogram
from habitat.image import Image
from tests.test_evaluate import cohort

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
GALLERY = NOTEBOOKS / "gallery"
CASES = 8


def of_one_tumor():
    """Figures of one generated tumor, by name."""
    case = habitat.phantom()
    result = habitat.segment(case.pet, case.ct, case.mask, k=4)
    soft = habitat.segment(case.pet, case.ct, case.mask, k=4, method="gmm")
    labels = Image(result.labels[result.box], result.geometry.crop(result.box))
    values = {name: image.array for name, image in result.images.items()}
    units = list(values)
    yield (
        "mosaic",
        plotting.mosaic(
            result.images["HU"], labels, names=result.names, pet=result.images["SUVbw"]
        ),
    )
    yield (
        "density",
        plotting.plot_density(
            *values.values(),
            labels.array,
            result.centers,
            names=result.names,
            units=units,
        ),
    )
    yield (
        "histograms",
        plotting.plot_histograms(values, labels.array, names=result.names),
    )
    grid = soft.geometry.crop(soft.box)
    yield (
        "uncertainty",
        plotting.plot_uncertainty(
            soft.images["HU"],
            Image(soft.uncertainty, grid),
            Image(soft.labels[soft.box], grid),
            names=soft.names,
        ),
    )
    yield "choice", habitat.choose_k(result, range(1, 8), draws=39).plot()
    yield "stability", habitat.stability(result, repeats=1).plot()


def of_a_cohort():
    """Figures of generated tumors together, by name."""
    tumors = [habitat.phantom(random_state=seed) for seed in range(CASES)]
    cases = [
        habitat.Case(f"case {i + 1}", {"pet": p.pet, "ct": p.ct}, p.mask)
        for i, p in enumerate(tumors)
    ]
    model = habitat.HabitatModel(k=4).fit(cases)
    results = model.transform(cases)
    shares = np.array([r.table["fraction"] for r in results])
    names = [f"h{i + 1}" for i in range(4)]
    ids = [case.case_id for case in cases]
    yield "shares", plotting.plot_shares(shares, case_ids=ids, names=names)


def of_a_classifier():
    """Figures of a classifier of generated features, by name."""
    table, y = cohort(120)
    beside = ("volume only", "whole tumor", "permuted habitats", "permuted outcome")
    found = habitat.evaluate(HabitatClassifier(), table, y, cv=(5, 2), beside=beside)
    yield "evaluation", found.plot()
    yield "nomogram", nomogram(HabitatClassifier().fit(table, y)).plot()


def main() -> None:
    case = habitat.phantom()
    result = habitat.segment(case.pet, case.ct, case.mask, k=4)
    result.plot().savefig(NOTEBOOKS / "habitats.png", dpi=130, bbox_inches="tight")
    GALLERY.mkdir(exist_ok=True)
    for figures in (of_one_tumor(), of_a_cohort(), of_a_classifier()):
        for name, figure in figures:
            path = GALLERY / f"{name}.png"
            figure.savefig(path, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
