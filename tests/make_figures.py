"""Draw the README's picture: ``python -m tests.make_figures``."""

from pathlib import Path

import habitat

ROOT = Path(__file__).parents[1]


def main() -> None:
    case = habitat.phantom()
    result = habitat.segment(case.pet, case.ct, case.mask, k=4)
    path = ROOT / "notebooks" / "habitats.png"
    result.plot().savefig(path, dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
