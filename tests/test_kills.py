"""kill -9 and full disks at random moments of a batch; see kill_batch.py."""

import os
import random
import sys

import pytest

from tests.kill_batch import mount, trials, unmount

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, mounts a tmpfs"),
]
MOMENTS = 20


@pytest.fixture
def seed():
    """Other moments in each run; printed where a test fails."""
    value = random.SystemRandom().randrange(10**6)
    print(f"seed {value}")
    return value


@pytest.mark.parametrize("kind", ["parent", "worker"])
def test_kill_9_leaves_nothing_half_done_and_a_second_run_completes(
    tmp_path, kind, seed
):
    for line in trials(kind, tmp_path, MOMENTS, seed):
        print(line)


def test_a_full_disk_leaves_nothing_half_done_and_a_second_run_completes(
    tmp_path, seed
):
    place = tmp_path / "try"
    place.mkdir()
    if os.geteuid() != 0 or not mount(place, 4096):
        pytest.skip("needs root's rights to mount a small disk")
    unmount(place)
    for line in trials("disk", tmp_path, MOMENTS, seed):
        print(line)
