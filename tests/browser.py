"""A page in headless Chromium: what it logs, what it asks the network for."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-extensions", "--hide-scrollbars", "--enable-logging=stderr"),
)
LOCAL = ("file:", "data:", "blob:", "chrome:", "devtools:", "about:")


class Opened(NamedTuple):
    """What a browser made of a page."""

    dom: str  # after its scripts have run
    console: list[str]  # lines
    requests: list[str]  # addresses that are not local


def find_browser() -> str:
    """Path of Chromium; the test is skipped, or fails where one is required."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    if "browser" in os.environ.get("HABITAT_REQUIRE", ""):
        pytest.fail("HABITAT_REQUIRE names the browser, but Chromium is absent")
    pytest.skip("needs Chromium")


def open_page(page: Path, scratch: Path, *, wait_ms: int = 2000) -> Opened:
    """Open a file, wait, and return what it became.

    Parameters
    ----------
    page : Path
        HTML.
    scratch : Path
        Folder for profile and log of the browser.
    wait_ms : int
        Time of the page, which runs faster than ours where nothing goes on.
    """
    log = scratch / "net.json"
    done = subprocess.run(
        [
            *(find_browser(), *FLAGS, f"--user-data-dir={scratch / 'profile'}"),
            *(f"--log-net-log={log}", f"--virtual-time-budget={wait_ms}"),
            *("--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Opened(done.stdout, console, _requests(log))


def _requests(log: Path) -> list[str]:
    """Addresses that a page asked for; not those of the browser's own services."""
    text = log.read_text(encoding="utf-8").rstrip().rstrip(",")
    try:
        events = json.loads(text)["events"]
    except json.JSONDecodeError:  # the browser was stopped while it wrote
        events = json.loads(text + "]}")["events"]
    found = set()
    for event in events:
        params = event.get("params", {})
        url = params.get("url", "")
        own = params.get("initiator", "not an origin") == "not an origin"
        if url and not own and not url.startswith(LOCAL):
            found.add(url)
    return sorted(found)
