"""A bundle's acceptance: written whole or not at all, refused when it failed, no part of what engines are kept by."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from judo_edge.bundle import MANIFEST_NAME, Bundle, acceptance, info_rows, open_bundle
from judo_edge.bundle.acceptance import Outcome, acceptance_text, check_accepted, write_acceptance
from judo_edge.errors import BundleError, OutputError
from judo_edge.files import write_atomic
from tests.scripted import scripted_bundle

PASSED = Outcome((), "ref-fp32", "set/items.csv, split accept, 8 items", "onnxruntime")
FAILED = replace(PASSED, failed=("cell_f1", "clear_flips"))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return scripted_bundle(tmp_path / "bundle")


def reports(bundle: Bundle) -> list[str]:
    return sorted(path.name for path in bundle.folder.glob("acceptance*"))


def test_an_unverified_bundle_may_be_used_and_says_so(bundle: Bundle) -> None:
    assert check_accepted(bundle) == () and acceptance_text(bundle) == "not verified"
    assert ("acceptance", "not verified") in info_rows(bundle)


def test_a_report_becomes_part_of_the_bundle(bundle: Bundle) -> None:
    written = write_acceptance(bundle, PASSED, {"figures": {"cell_f1": 0.99}})
    again = open_bundle(bundle.folder)
    assert again == written and again.manifest.acceptance is not None
    (name,) = reports(bundle)
    assert again.manifest.acceptance.report == name
    assert json.loads(again.path_of(name).read_text()) == {"figures": {"cell_f1": 0.99}}
    assert check_accepted(again) == () and acceptance_text(again).startswith("passed (against ref-fp32, set/items.csv")
    assert any(name in value for key, value in info_rows(again) if key == "verified")


def test_only_the_acceptance_changes(bundle: Bundle) -> None:
    written = write_acceptance(bundle, PASSED, {})
    assert written.digest != bundle.digest
    assert (written.content_digest, written.subject_digest) == (bundle.content_digest, bundle.subject_digest)
    assert written.without_acceptance().manifest.model_copy(update={"files": {}}) == bundle.manifest.model_copy(
        update={"files": {}}
    )
    earlier = set(bundle.manifest.files.items())
    assert set(written.manifest.files.items()) - earlier == {
        (written.manifest.acceptance.report, written.manifest.files[written.manifest.acceptance.report])  # type: ignore[union-attr]
    }


def test_the_content_digest_follows_the_files(tmp_path: Path) -> None:
    one, other = scripted_bundle(tmp_path / "one"), scripted_bundle(tmp_path / "other", max_new_tokens=7)
    assert one.content_digest != other.content_digest
    assert one.content_digest == scripted_bundle(tmp_path / "same").content_digest


def test_a_failed_gate_must_be_accepted_by_name(bundle: Bundle) -> None:
    failed = write_acceptance(bundle, FAILED, {})
    for accepted, missing in [
        ((), "cell_f1, clear_flips"),
        (("cell_f1",), "clear_flips"),
        (("cell_f", "x"), "cell_f1"),
    ]:
        with pytest.raises(BundleError, match=missing):
            check_accepted(failed, accepted)
    with pytest.raises(BundleError, match="--accept-failed cell_f1 --accept-failed clear_flips"):
        check_accepted(failed)
    assert check_accepted(failed, ["clear_flips", "cell_f1"]) == ("cell_f1", "clear_flips")
    assert acceptance_text(failed).startswith("failed: cell_f1, clear_flips")


def test_a_report_is_replaced_only_by_force(bundle: Bundle) -> None:
    failed = write_acceptance(bundle, FAILED, {"run": 1})
    before = reports(bundle)
    with pytest.raises(OutputError, match="--force"):
        write_acceptance(failed, PASSED, {"run": 2})
    assert open_bundle(bundle.folder) == failed and reports(bundle) == before
    passed = write_acceptance(failed, PASSED, {"run": 2}, force=True)
    assert open_bundle(bundle.folder) == passed and len(reports(bundle)) == 1 and reports(bundle) != before
    assert passed.content_digest == bundle.content_digest


@pytest.mark.parametrize("verified", [False, True])
@pytest.mark.parametrize("file", ["report", "manifest"])
def test_an_interrupted_write_leaves_the_bundle_as_it_was(
    bundle: Bundle, verified: bool, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write_acceptance(bundle, FAILED, {"run": 1}) if verified else bundle

    def interrupted(path: Path, data: bytes, force: bool = False) -> None:
        if (path.name == MANIFEST_NAME) == (file == "manifest"):
            path.with_name(f"{path.name}.partial-{12345}").write_bytes(data[: len(data) // 2])
            raise KeyboardInterrupt
        write_atomic(path, data, force)

    with monkeypatch.context() as patch:
        patch.setattr(acceptance, "write_atomic", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_acceptance(before, PASSED, {"run": 2}, force=True)
    assert open_bundle(bundle.folder) == before
    after = write_acceptance(open_bundle(bundle.folder), PASSED, {"run": 3}, force=True)
    assert open_bundle(bundle.folder) == after
    assert reports(bundle) == [after.manifest.acceptance.report]  # type: ignore[union-attr]
    assert not list(bundle.folder.glob("*partial*"))


def test_a_changed_report_is_refused_like_any_file(bundle: Bundle) -> None:
    write_acceptance(bundle, FAILED, {"status": "failed"})
    (name,) = reports(bundle)
    path = bundle.folder / name
    path.write_text(path.read_text().replace("failed", "passed"))
    with pytest.raises(BundleError, match=rf"{name} was changed"):
        open_bundle(bundle.folder)
    path.unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing"):
        open_bundle(bundle.folder)


def test_an_acceptance_does_not_pass_to_another_content(bundle: Bundle) -> None:
    write_acceptance(bundle, PASSED, {})
    path = bundle.folder / MANIFEST_NAME
    content = json.loads(path.read_text())
    content["preprocessing"]["mean"] = [0.1, 0.1, 0.1]
    path.write_text(json.dumps(content))
    changed = open_bundle(bundle.folder)
    with pytest.raises(BundleError, match="changed after its verification"):
        check_accepted(changed)
    assert acceptance_text(changed).startswith("not verified")
    anew = write_acceptance(changed, PASSED, {}, force=True)
    assert check_accepted(anew) == ()


def test_the_layout_of_the_manifest_is_no_content(bundle: Bundle) -> None:
    written = write_acceptance(bundle, PASSED, {})
    path = bundle.folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert open_bundle(bundle.folder).subject_digest == written.subject_digest


def test_a_status_that_contradicts_its_gates_is_refused(bundle: Bundle) -> None:
    write_acceptance(bundle, FAILED, {})
    path = bundle.folder / MANIFEST_NAME
    path.write_text(path.read_text().replace('"status": "failed"', '"status": "passed"'))
    with pytest.raises(BundleError, match="acceptance"):
        open_bundle(bundle.folder)
