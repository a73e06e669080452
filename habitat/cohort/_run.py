"""One run of a batch: its folder, what became of each case, its tables."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from habitat._check import warn
from habitat._progress import progress
from habitat.cohort._case import MASK, RECORD, UNCHANGED, run_case
from habitat.cohort._plan import Plan
from habitat.cohort._tables import (
    DONE,
    FAILED,
    NOT_RUN,
    Failed,
    Listed,
    write_failures,
    write_features,
    write_notes,
    write_run,
)
from habitat.cohort._work import Done, Failure, Runner, Task
from habitat.errors import CohortError
from habitat.saving import OLD, PART, is_clutter
from habitat.segmentation import versions

CASES, RUN = "cases", "run.json"
FAILURES, NOTES = "failures.csv", "notes.csv"
FORMAT = "habitat.run/1"


@dataclass(eq=False)
class Run:
    """What is known so far of a run of a batch."""

    out: Path
    plan: Plan
    listed: list[Listed]  # every case, in the order of the cohort
    failures: dict[int, Failure]  # by place in `listed`
    facts: dict[int, dict[str, Any]] = field(default_factory=dict)
    began: float = field(default_factory=time.time)
    notes: list[str] = field(default_factory=list)
    state: str = "stopped"  # unless it comes to its end

    def start(self, resume: bool) -> None:
        """Look at what is in the folder; clear what a killed run left behind."""
        if resume:
            self._same_plan()
        cases = self.out / CASES
        cases.mkdir(parents=True, exist_ok=True)
        self._clear()
        self._foreign(cases)
        self._record("running")

    def go(self, runner: Runner, resume: bool) -> None:
        """Run all cases that the table did not rule out."""
        with progress(len(self.listed), "Case") as advance:
            for place in sorted(self.failures):
                advance(self.listed[place].case_id, True)
            for done in runner.run(self._tasks(resume)):
                self._keep(done)
                advance(self.listed[done.key].case_id, done.failure is not None)
        self._clear()
        self.state = "finished"

    def finish(self) -> None:
        """Write the tables of what is done."""
        self.listed = [
            one._replace(status=self._status(i)) for i, one in enumerate(self.listed)
        ]
        self._shared_images()
        failed = [
            Failed(self.listed[i].case_id, self.failures[i])
            for i in sorted(self.failures)
        ]
        write_failures(self.out / FAILURES, failed)
        write_features(self.out, self.listed, self.folder_of)
        self._count_notes()
        self._record(self.state)

    def folder_of(self, case: Listed) -> Path:
        """Final folder of a case."""
        return self.out / CASES / case.name

    def _tasks(self, resume: bool) -> Iterator[Task]:
        for place, one in enumerate(self.listed):
            if place not in self.failures:
                args = (one.case, self.folder_of(one), self.plan, resume)
                yield Task(place, one.case_id, run_case, args)

    def _keep(self, done: Done) -> None:
        if done.failure is not None:
            self.failures[done.key] = done.failure
            return
        self.facts[done.key] = {
            "unchanged": done.value.status == UNCHANGED,
            "seconds": round(done.seconds, 3),
            "peak_mb": done.peak // 2**20,
            "sources": done.value.sources,
        }

    def _status(self, place: int) -> str:
        if place in self.failures:
            return FAILED
        return DONE if place in self.facts else NOT_RUN

    def _clear(self) -> None:
        """Remove what killed processes left half done."""
        for folder in (self.out, self.out / CASES):
            for path in folder.iterdir():
                if path.name.startswith((PART, OLD)):
                    _discard(path)

    def _count_notes(self) -> None:
        """Write what must be known of each case, and say how many there are."""
        done = [one for one in self.listed if one.status == DONE]
        count = write_notes(self.out / NOTES, done, self.folder_of)
        if count:
            self.notes.append(f"{count} of {len(done)} cases have notes: {NOTES}")

    def _same_plan(self) -> None:
        if not any(self.out.glob(f"{CASES}/*/{RECORD}")):
            return  # nothing would be lost
        try:
            earlier = json.loads((self.out / RUN).read_text(encoding="utf-8"))["plan"]
        except (OSError, ValueError, KeyError, TypeError):
            return
        mine = self.plan.to_json()
        changed = _differences(earlier, mine)
        if changed:
            what = f"holds results of other parameters ({'; '.join(changed)})"
            fix = "name another folder, or make all anew: resume=False (--no-resume)"
            raise CohortError(what, str(self.out), fix)

    def _foreign(self, cases: Path) -> None:
        """Name the folders of cases that the cohort no longer has."""
        names = {one.name for one in self.listed}
        found = {p.name for p in cases.iterdir()} - names
        others = sorted(name for name in found if not is_clutter(name))
        if others:
            first = ", ".join(others[:3])
            text = f"{len(others)} folders of {cases} belong to no case of this cohort"
            self.notes.append(warn(f"{text} and are left alone: {first}"))

    def _shared_images(self) -> None:
        """Two patients with the very same image: one row names the wrong file."""
        seen: dict[str, int] = {}
        for place in sorted(self.facts):
            for channel, sha256 in self.facts[place]["sources"].items():
                if channel.startswith(MASK):  # two tumors may well be drawn alike
                    continue
                first = seen.setdefault(sha256, place)
                a, b = self.listed[first], self.listed[place]
                if _patient(a) != _patient(b):
                    text = f"cases {a.case_id} and {b.case_id} have the same {channel}"
                    fix = "correct the table, or give both the same `group`"
                    self.notes.append(warn(f"{text}: {fix}"))

    def _record(self, state: str) -> None:
        statuses = [self._status(i) for i in range(len(self.listed))]
        write_run(
            self.out / RUN,
            {
                "format": FORMAT,
                "state": state,
                "plan": self.plan.to_json(),
                "versions": versions(),
                "host": platform.node(),
                "command": sys.argv,
                "began": _iso(self.began),
                "seconds": round(time.time() - self.began, 1),
                "cases": {s: statuses.count(s) for s in (DONE, FAILED, NOT_RUN)},
                "notes": self.notes,
                "of_cases": {
                    self.listed[i].case_id: {
                        name: fact for name, fact in facts.items() if name != "sources"
                    }
                    for i, facts in sorted(self.facts.items())
                },
            },
        )


def _patient(case: Listed) -> str:
    return (case.case and case.case.group) or case.case_id


def _differences(earlier: Any, mine: Mapping[str, Any]) -> list[str]:
    """What differs between two plans, in words."""
    if not isinstance(earlier, Mapping):
        return ["unknown"]
    out = []
    for part, new in mine.items():
        old = earlier.get(part)
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            for name in sorted({*new, *old}):
                if new.get(name) != old.get(name):
                    out.append(f"{name} {old.get(name)!r}, now {new.get(name)!r}")
        elif old != new:
            out.append(f"{part} {old!r}, now {new!r}")
    return out


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds")
