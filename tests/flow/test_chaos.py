"""A short run of the station under random faults; `CHAOS_TRIGGERS` and `CHAOS_SEED` make it another one."""

import os

import pytest

from tests.chaos.__main__ import run

pytestmark = pytest.mark.slow


def test_every_trigger_has_one_durable_verdict_whatever_goes_wrong(tmp_path):
    assert run(tmp_path, int(os.environ.get("CHAOS_TRIGGERS", "100")), int(os.environ.get("CHAOS_SEED", "5"))) == 0
