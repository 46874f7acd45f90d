"""What a store of references gives an inspector: embeddings once, a reasoning policy, a calibrated decision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from judo_edge.bundle import Bundle
from judo_edge.calibration.fit import fit_from_observations
from judo_edge.core import Decision, Event, EventKind, Frame
from judo_edge.errors import InputError
from judo_edge.protocol.questions import Question, QuestionType
from judo_edge.runtime.decisions import DecisionStore, circumstances_of
from judo_edge.runtime.generation import Ending
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.references import ReferenceStore
from tests.decisions import decision_of, observed
from tests.scripted import BAD, GOOD, ScriptedEngine, photo, red_means_bad, scripted_bundle

PART = "lid"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return scripted_bundle(tmp_path_factory.mktemp("bundles") / "scripted")


@pytest.fixture
def store(tmp_path: Path) -> ReferenceStore:
    made = ReferenceStore(tmp_path / "store")
    for seed in range(3):
        made.enroll(PART, photo(0, seed), f"{seed}.png")
    return made


def inspector(
    bundle: Bundle, store: ReferenceStore, script: Callable[[float], str] = red_means_bad
) -> tuple[Inspector, ScriptedEngine]:
    engine = ScriptedEngine(script)
    return Inspector(bundle, engine, store.photos(PART), store=store), engine


def frame(red: int, name: str = "f") -> Frame:
    return Frame(name, PART, photo(red, 9), 0)


def calibrate(bundle: Bundle, store: ReferenceStore, used: list[str]) -> None:
    """Put a decision in use that was fitted on good parts with a margin of about 0 logits at the first mask token."""
    fit = fit_from_observations(observed(60, names=("first_mask_token",)), 0.05, 0.9)
    DecisionStore(store.folder).add(decision_of(fit, PART, circumstances_of(bundle, "scripted", used)))


def test_each_photo_is_encoded_once_and_references_never_again(bundle: Bundle, store: ReferenceStore) -> None:
    first, engine = inspector(bundle, store)
    counted = []
    for number in range(3):
        assert first.inspect(frame(10 + number)).decision is Decision.OK
        counted.append(engine.num_encoded)
    assert counted == [1 + 3, 5, 6], "the query, and every reference at the first frame"
    again, engine = inspector(bundle, store)
    again.inspect(frame(10))
    assert engine.num_encoded == 1, "after a restart the query alone"
    assert (again.gallery.counts.read, again.gallery.counts.computed) == (3, 0)


def test_another_question_leaves_no_part_behind_in_the_store(bundle: Bundle, store: ReferenceStore) -> None:
    asked, _ = inspector(bundle, store)
    shown = frame(10)
    asked.look(shown)
    asked.ask(shown, Question(QuestionType.DEFECT_CLASSIFICATION, "Which?", ("One.", "Two."), None))
    assert store.parts() == (PART,) and len(list((store.folder / PART).glob("replies-*.jsonl"))) == 2


def test_a_torn_embedding_is_computed_again(bundle: Bundle, store: ReferenceStore) -> None:
    inspector(bundle, store)[0].inspect(frame(10))
    for file in (store.folder / ".embeddings").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-3])
    again, engine = inspector(bundle, store)
    assert again.inspect(frame(10)).decision is Decision.OK and engine.num_encoded == 4


@pytest.mark.parametrize(
    ("policy", "text", "decision", "is_short"),
    [
        ("always", GOOD, Decision.OK, False),
        ("nok-only", GOOD, Decision.OK, True),
        ("nok-only", BAD, Decision.NOK, False),
        ("on-demand", GOOD, Decision.OK, True),
        ("on-demand", BAD, Decision.NOK, True),
    ],
)
def test_reasoning_policy_of_a_part(
    policy: str, text: str, decision: Decision, is_short: bool, bundle: Bundle, store: ReferenceStore
) -> None:
    store.set_recipe(PART, store.recipe(PART).model_copy(update={"reasoning": policy}))
    asked, _ = inspector(bundle, store, lambda red: text)
    for _ in range(2):  # the second time the reply is drafted
        events: list[Event] = []
        verdict = asked.look(frame(10), events.append).verdict
        assert verdict.decision is decision and verdict.reply is not None and verdict.reply.is_valid
        kinds = [event.kind for event in events]
        assert kinds[0] is EventKind.EARLY_VERDICT and kinds[-1] is EventKind.VERDICT
        assert (EventKind.ANSWER in kinds) is not is_short and EventKind.MASK in kinds
        assert (verdict.reply.text == text) is not is_short
    if is_short:
        assert verdict.reason.startswith("by the mask alone") and Ending.UNASKED.value not in verdict.reason


def test_a_calibrated_rule_decides_and_judo_is_reported(bundle: Bundle, store: ReferenceStore) -> None:
    used = [reference.reference_id for reference in store.references(PART)]
    calibrate(bundle, store, used)
    asked, _ = inspector(bundle, store)
    assert asked.decider.note(PART) == ""
    verdict = asked.inspect(frame(10))
    assert verdict.judo is Decision.OK and verdict.threshold is not None and verdict.score is not None
    assert verdict.decision is Decision.OK and verdict.score <= verdict.threshold
    assert asked.inspect(frame(250)).decision is Decision.NOK, "a margin of 3 logits"
    assert "JUDO: The query matches" in verdict.reason
    broken, _ = inspector(bundle, store, lambda red: "no reply at all")
    assert broken.inspect(frame(10)).decision is Decision.NOT_DECIDABLE, "an invalid reply never becomes OK"


def test_a_decision_for_other_references_is_not_applied(bundle: Bundle, store: ReferenceStore) -> None:
    calibrate(bundle, store, ["other"])
    asked, _ = inspector(bundle, store)
    assert "references changed" in asked.decider.note(PART)
    assert asked.inspect(frame(250)).threshold is None


def test_a_decision_that_cannot_be_read_is_no_ok(bundle: Bundle, store: ReferenceStore) -> None:
    used = [reference.reference_id for reference in store.references(PART)]
    calibrate(bundle, store, used)
    (file,) = (store.folder / PART / "decisions").glob("*.json")
    file.write_text(file.read_text().replace('"budget"', '"budged"', 1))
    verdict = inspector(bundle, store)[0].inspect(frame(10))
    assert verdict.decision is Decision.NOT_DECIDABLE and "0001.json" in verdict.reason


def test_an_aligned_part_says_what_became_of_the_frame(bundle: Bundle, store: ReferenceStore) -> None:
    store.set_recipe(PART, store.recipe(PART).model_copy(update={"align": "ecc-translation"}))
    look = inspector(bundle, store)[0].look(frame(10))
    assert look.alignment is not None and look.alignment.refusal, "noise does not lie over noise"
    assert look.verdict.decision is Decision.OK and look.marked == look.verdict.reply.mask  # type: ignore[union-attr]


def test_only_a_detection_question_can_decide(bundle: Bundle, store: ReferenceStore) -> None:
    which = Question(QuestionType.DEFECT_CLASSIFICATION, "Which?", ("One.", "Two."), None)
    with pytest.raises(InputError, match="one option that means a defect"):
        Inspector(bundle, ScriptedEngine(red_means_bad), store.photos(PART), which)
