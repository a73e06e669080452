"""What all draws share: which there are, of which cases, and what was warned of."""

from __future__ import annotations

import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from habitat._check import integer, one_of
from habitat.case import Case
from habitat.errors import ConfigError, HabitatError, HabitatWarning, InputError
from habitat.reliability._perturb import PERTURBATIONS, VARIANTS, Draw
from habitat.result import HabitatResult

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """Which perturbations, how often, and from which seed."""

    names: tuple[str, ...]
    repeats: int
    seed: int

    @classmethod
    def of(cls, perturbations: Sequence[str], repeats: int, random_state: int) -> Plan:
        """Check the arguments of `stability`."""
        if isinstance(perturbations, str) or not isinstance(perturbations, Sequence):
            raise ConfigError("must be a list of names", "`perturbations`")
        names = [one_of("perturbations", p, PERTURBATIONS) for p in perturbations]
        if not names:
            raise ConfigError("must be a list of one name or more", "`perturbations`")
        return cls(
            tuple(dict.fromkeys(names)),
            integer("repeats", repeats, 1, 100),
            integer("random_state", random_state, 0, 2**32 - 1),
        )

    def draws(
        self, case_id: str, name: str, channels: int, warned: list[str]
    ) -> Iterator[Draw]:
        """All draws of one perturbation of a case."""
        if name == "misregistration" and channels < 2:
            warned.append("one channel: misregistration was left out")
            return
        stream = (self.seed, zlib.crc32(case_id.encode()), zlib.crc32(name.encode()))
        for number in range(min(self.repeats, VARIANTS.get(name, self.repeats))):
            yield Draw(number, np.random.default_rng((*stream, number)))


def named_cases(data: Any) -> list[tuple[str, HabitatResult | Case]]:
    """Cases and results by name; results are numbered."""
    items = list(data) if isinstance(data, Sequence) else [data]
    known = all(isinstance(one, HabitatResult | Case) for one in items)
    if not items or not known:
        what = "must be a HabitatResult, a Case, or a list of one or more of them"
        raise InputError(what, "`data`")
    cases = [
        (one.case_id if isinstance(one, Case) else str(i), one)
        for i, one in enumerate(items, start=1)
    ]
    twice = [name for name, n in Counter(name for name, _ in cases).items() if n > 1]
    if twice:
        raise InputError(f"case {twice[0]!r} is there twice", "`data`")
    return cases


@contextmanager
def of_case(case_id: str) -> Iterator[None]:
    """Name the case in all errors."""
    try:
        yield
    except HabitatError as error:
        where = f"case {case_id}, {error.where}".removesuffix(", ")
        raise type(error)(error.what, where, error.fix) from error


def quietly(function: Callable[..., T], *arguments: Any, warned: list[str]) -> T:
    """Call; keep what it warns of."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", HabitatWarning)
        result = function(*arguments)
    for w in seen:
        if issubclass(w.category, HabitatWarning):
            warned.append(str(w.message))
        else:
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    return result


def counted(texts: Sequence[str]) -> list[str]:
    """Each kind of text once, with how often it came; kinds differ by words only."""
    kinds: dict[str, list[str]] = {}
    for text in texts:
        kinds.setdefault(re.sub(r"[-+\d.]+", "#", text), []).append(text)
    return [f"{len(t)} time{'s' if len(t) > 1 else ''}: {t[0]}" for t in kinds.values()]
