"""Fixtures that several test modules use."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# First calls compile. CI repeats one set of examples, elsewhere new ones are tried.
settings.register_profile("habitat", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("habitat")


def find_shared() -> Path | None:
    named = os.environ.get("HABITAT_SHARED")
    path = Path(named) if named else Path(__file__).parents[2] / "shared"
    return path if (path / "data").is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with public test data that is never copied into the project."""
    path = find_shared()
    if path is None:
        if "shared" in os.environ.get("HABITAT_REQUIRE", ""):
            pytest.fail("HABITAT_REQUIRE=shared but the shared data are absent")
        pytest.skip("needs the shared public data (set HABITAT_SHARED)")
    return path
