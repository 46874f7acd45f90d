"""`judo-edge verify` on JUDO-nano: a good bundle passes the shipped gates, each planted fault is caught and refused."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `export` (torch)")
onnx = pytest.importorskip("onnx", reason="needs the extra `export` (onnx)")
from safetensors.numpy import load_file, save_file

from judo_edge.adapt.drawing.parts import ADAPTER_KIND
from judo_edge.adapt.heldout import heldout_pairs, items_from_pairs
from judo_edge.bundle import MANIFEST_NAME, open_bundle
from judo_edge.cli import main
from judo_edge.export.pipeline import export_bundle, shipped_checkpoints

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "cubes" / "items.csv"
LIMIT = 20 if PHOTOS.is_file() else 40
"""Items of each set: 20 drawn pairs and 20 photos, or without the photos 40 drawn pairs."""
MARGINS = "mask_margin_drift_median"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a good int8 bundle and drawn pairs; the reference is exported once into a cache beside them."""
    folder = tmp_path_factory.mktemp("verify")
    items_from_pairs(heldout_pairs((ADAPTER_KIND,), LIMIT, seed=79_000_000), folder / "drawn")
    export_bundle("judo-nano", [ADAPTER_KIND], "cpu-int8", folder / "good")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


def verify(bundle: Path, *more: str, against: tuple[str, ...] = ("judo-nano", "--adapter", ADAPTER_KIND)) -> int:
    sets = [str(bundle.parent / "drawn" / "items.csv"), *([str(PHOTOS)] if PHOTOS.is_file() else [])]
    items = [part for path in sets for part in ("--items", path)]
    few = ("--limit", str(LIMIT), "--references", "8")
    return main(["verify", str(bundle), "--against", *against, *items, *few, *more])


def evaluate(bundle: Path, *more: str) -> int:
    items = bundle.parent / "drawn" / "items.csv"
    return main(
        ["evaluate", str(bundle), str(items), "--limit", "2", "--force", "--json", str(bundle) + ".json", *more]
    )


def report_of(bundle: Path) -> dict[str, Any]:
    opened = open_bundle(bundle)
    assert opened.manifest.acceptance is not None
    content: dict[str, Any] = json.loads(opened.path_of(opened.manifest.acceptance.report).read_text())
    return content


def test_a_good_bundle_passes_the_shipped_gates(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = home / "good"
    before = open_bundle(bundle)
    assert main(["info", str(bundle)]) == 0 and "not verified" in capsys.readouterr().out
    assert verify(bundle) == 0, capsys.readouterr().out
    report = report_of(bundle)
    assert report["status"] == "passed" and all(gate["passed"] and not gate["note"] for gate in report["gates"])
    assert report["about"]["against"].endswith("cpu-fp32") and report["about"]["items"] >= 40
    assert report["figures"]["logit_difference_mean"]["value"] > 0  # int8 was measured, not the reference itself
    for side in ("reference", "bundle"):
        assert report[side]["counts"]["items"] == report["about"]["items"]
    after = open_bundle(bundle)
    assert after.content_digest == before.content_digest and after.digest != before.digest
    capsys.readouterr()
    assert main(["info", str(bundle)]) == 0 and "passed (against" in capsys.readouterr().out
    assert evaluate(bundle) == 0
    assert json.loads((home / "good.json").read_text())["acceptance"].startswith("passed")
    assert verify(bundle) == 2 and "--force" in capsys.readouterr().err
    assert open_bundle(bundle) == after


def test_a_reference_from_other_weights_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (home / "good" / MANIFEST_NAME).read_bytes()
    assert verify(home / "good", "--force", against=("judo-nano",)) == 2
    assert "no adapter" in capsys.readouterr().err
    assert (home / "good" / MANIFEST_NAME).read_bytes() == before


def swap_windows(home: Path, bundle: Path) -> None:
    """Let the rows of the second and third attention window change places on their way out of the vision graph."""
    shutil.copytree(home / "good", bundle)
    model = onnx.load(bundle / "vision.onnx", load_external_data=False)
    orders = [tensor for tensor in model.graph.initializer if is_order(tensor)]
    orders = [one for one in orders if one.dims[0] == min(o.dims[0] for o in orders)]  # of tokens, not of patches
    readers = [max(i for i, node in enumerate(model.graph.node) if tensor.name in node.input) for tensor in orders]
    inverse = orders[int(np.argmax(readers))]
    order = onnx.numpy_helper.to_array(inverse)
    window = order.size // 4
    swap = np.arange(order.size)
    swap[window : 2 * window], swap[2 * window : 3 * window] = (
        swap[2 * window : 3 * window].copy(),
        swap[window : 2 * window].copy(),
    )
    inverse.CopyFrom(onnx.numpy_helper.from_array(swap[order], inverse.name))
    (bundle / "vision.onnx").write_bytes(model.SerializeToString())
    rehash(bundle)


def is_order(tensor: Any) -> bool:
    if tensor.data_type != onnx.TensorProto.INT64 or len(tensor.dims) != 1 or tensor.dims[0] < 16:
        return False
    values = onnx.numpy_helper.to_array(tensor)
    inside = np.array_equal(np.sort(values), np.arange(values.size))
    return inside and not np.array_equal(values, np.arange(values.size))


def spoil_scale(home: Path, bundle: Path) -> None:
    """Multiply the scales of one linear layer in the middle of the decoder by four: queries, which is hard to see."""
    shutil.copytree(home / "good", bundle)
    model = onnx.load(bundle / "decoder.onnx", load_external_data=False)
    scales = [node.input[2] for node in model.graph.node if node.op_type == "MatMulNBits"]
    wanted = scales[len(scales) // 2]
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == wanted)
    place = {entry.key: entry.value for entry in tensor.external_data}
    data = np.memmap(
        bundle / place["location"], np.float32, "r+", int(place.get("offset", 0)), (int(place["length"]) // 4,)
    )
    data *= 4
    data.flush()
    rehash(bundle)


def truncate_adapter(home: Path, bundle: Path) -> None:
    """Merge only the first half of the adapter's pairs, as after a download that stopped."""
    names = sorted({name.split(".lora_")[0] for name in adapter_tensors()})
    export_faulted(home, bundle, lambda name: names.index(name.split(".lora_")[0]) < len(names) // 2)


def leave_layers_unmerged(home: Path, bundle: Path) -> None:
    """Merge the adapter into the first three of six decoder layers."""

    def is_merged(name: str) -> bool:
        layer = re.search(r"language_model\.layers\.(\d+)\.", name)
        return layer is None or int(layer[1]) < 3

    export_faulted(home, bundle, is_merged)


def adapter_tensors() -> dict[str, Any]:
    return load_file(shipped_checkpoints()["judo-nano"] / "adapters" / ADAPTER_KIND / "adapter_model.safetensors")


def export_faulted(home: Path, bundle: Path, is_kept: Callable[[str], bool]) -> None:
    """Export with a part of the adapter, and let the manifest say what a correct merge would say."""
    adapter = bundle.with_name(f"{bundle.name}-adapter") / ADAPTER_KIND
    shutil.copytree(shipped_checkpoints()["judo-nano"] / "adapters" / ADAPTER_KIND, adapter)
    tensors = adapter_tensors()
    kept = {name: tensor for name, tensor in tensors.items() if is_kept(name)}
    assert 0 < len(kept) < len(tensors)
    save_file(kept, adapter / "adapter_model.safetensors")
    export_bundle("judo-nano", [adapter], "cpu-int8", bundle)
    path = bundle / MANIFEST_NAME
    content = json.loads(path.read_text())
    content["source"] = json.loads((home / "good" / MANIFEST_NAME).read_text())["source"]
    path.write_text(json.dumps(content))


def rehash(bundle: Path) -> None:
    """Make the manifest fit the folder: a fault of the exporter would have the right hashes too."""
    path = bundle / MANIFEST_NAME
    content = json.loads(path.read_text())
    if (acceptance := content.pop("acceptance", None)) is not None:
        (bundle / acceptance["report"]).unlink()
    content["files"] = {
        file.name: {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "bytes": file.stat().st_size}
        for file in sorted(bundle.iterdir())
        if file.name != MANIFEST_NAME
    }
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("plant", "caught_by"),
    [
        (swap_windows, {"vision_cosine_min", "vision_error_max", "logit_difference_mean", MARGINS}),
        (spoil_scale, {"logit_difference_mean"}),
        (truncate_adapter, {"vision_cosine_min", "logit_difference_mean", MARGINS, "cell_f1"}),
        (leave_layers_unmerged, {"logit_difference_mean", MARGINS, "cell_f1"}),
    ],
)
def test_a_planted_fault_is_caught_and_the_bundle_refused(
    plant: Callable[[Path, Path], None], caught_by: set[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = home / plant.__name__
    plant(home, bundle)
    assert open_bundle(bundle).manifest.acceptance is None
    assert verify(bundle) == 1
    report = report_of(bundle)
    # Gates that measured too little fail as well, but a fault must be seen in a figure.
    seen = {gate["name"] for gate in report["gates"] if not gate["passed"] and not gate["note"]}
    assert report["status"] == "failed" and caught_by <= seen, seen
    capsys.readouterr()
    assert evaluate(bundle) == 2
    assert "--accept-failed" in capsys.readouterr().err
    assert main(["info", str(bundle)]) == 0 and "failed: " in capsys.readouterr().out
    accepted = [part for name in report["failed"] for part in ("--accept-failed", name)]
    assert evaluate(bundle, *accepted[2:]) == 2
    assert evaluate(bundle, *accepted) == 0
    assert json.loads(Path(f"{bundle}.json").read_text())["acceptance"].startswith("failed: ")
