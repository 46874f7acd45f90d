"""Peak memory does not grow with the number of layers; measured in processes of their own."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.peak import peak_of
from tests.tiny import TinyShape
from tests.tools.random_checkpoint import write_random_checkpoint
from tests.unit.calibration.photos import write_items

SHAPE = TinyShape(
    vocab_size=320, hidden_size=256, intermediate_size=2048, heads=4, kv_heads=2, mrope_section=(8, 12, 12)
)
"""A decoder layer of 7 MB in float32."""
LAYERS = (1, 9)
_RUN = """
import sys
from pathlib import Path
from judo_edge.calibration.file import Settings
from judo_edge.calibration.run import calibrate
from judo_edge.calibration.samples import Choice, pairs_from_csv
from judo_edge.cli.calibrating import subject_from_checkpoint
subject = subject_from_checkpoint(sys.argv[1], [], None)
pairs = pairs_from_csv(Path(sys.argv[2]), (16, 16), Choice(minimum=4))
settings = Settings(search_tokens=20, error_tokens=10, smooth_alphas=(0.5,), awq_powers=(0.5,))
calibrate(subject, pairs, Path(sys.argv[3]), settings)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads VmHWM from /proc")
def test_peak_memory_does_not_grow_with_the_number_of_layers(tmp_path: Path) -> None:
    items = write_items(tmp_path, 2, 2)
    peaks = []
    for layers in LAYERS:
        checkpoint = write_random_checkpoint(tmp_path / f"{layers}", replace(SHAPE, layers=layers), image_size=56)
        peaks.append(peak_of(_RUN, str(checkpoint), str(items), str(tmp_path / f"out{layers}")) / 1e6)
    print(f"peak MB by layers: {dict(zip(LAYERS, peaks, strict=True))}")
    assert peaks[1] - peaks[0] < 20, peaks  # eight more layers are 57 MB of weights
