"""The errors and the warning that habitat raises.

Every error says where (argument or file), what rule was broken and what was found,
and what to do next. All of them are ``ValueError``.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CohortError",
    "ConfigError",
    "DicomError",
    "GeometryError",
    "HabitatError",
    "HabitatWarning",
    "InputError",
    "MaskError",
    "ModalityError",
    "ModelError",
    "SUVError",
    "raise_all",
]


class HabitatError(ValueError):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    what : str
        The rule that was broken and what was found.
    where : str
        Argument name, file or case.
    fix : str
        What to do next.
    """

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where, fix)  # plain args, so that it pickles
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}; {self.fix}" if self.fix else head


class InputError(HabitatError):
    """A file or an array cannot be used as it is."""


class GeometryError(HabitatError):
    """Grids that are invalid or do not fit together."""


class MaskError(HabitatError):
    """A mask that is empty, ambiguous or too small."""


class ModalityError(HabitatError):
    """An image that does not look like what it was given as."""


class SUVError(HabitatError):
    """A PET image that cannot be brought to SUV."""


class DicomError(HabitatError):
    """A DICOM folder or file that is incomplete, mixed or unsupported."""


class ConfigError(HabitatError):
    """An argument or option outside its allowed values."""


class ModelError(HabitatError):
    """A model file or model use that is not valid."""


class CohortError(HabitatError):
    """A cohort table with contradictory or unusable rows."""


class HabitatWarning(UserWarning):
    """Something a reader of the result must know; also kept in ``result.notes``."""


def raise_all(problems: Sequence[HabitatError]) -> None:
    """Raise all problems found, at once; do nothing when there are none.

    One problem is raised as it is. Several are raised as their common class, with one
    line each.
    """
    if not problems:
        return
    if len(problems) == 1:
        raise problems[0]
    kinds = {type(p) for p in problems}
    kind = kinds.pop() if len(kinds) == 1 else HabitatError
    lines = "\n".join(f"- {p}".replace("\n", "\n  ") for p in problems)
    raise kind(f"{len(problems)} problems:\n{lines}")
