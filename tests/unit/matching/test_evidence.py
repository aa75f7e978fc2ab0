"""What the signals say of an entry: which names the match, what counts, where it is, in which order."""

from __future__ import annotations

import pytest
from tests.unit.matching.things import NOW, bank, entry

from imagewarden_server.matching.evidence import Candidate, Candidates, Found, Sighting, match_of
from imagewarden_server.matching.fusion import fusion_for
from imagewarden_server.matching.opinions import Quarantine, QuarantineReason
from imagewarden_server.matching.types import BankKind, Box, Evidence, Match, SignalType, Threshold, Transform

PDQ, EMBEDDING, LOCAL, COMBINED = SignalType.PDQ, SignalType.EMBEDDING, SignalType.LOCAL, SignalType.COMBINED
THRESHOLDS = {PDQ: Threshold(31), EMBEDDING: Threshold(0.8), LOCAL: Threshold(12), COMBINED: Threshold(0.9)}
HERE, THERE = Box(0.1, 0.2, 0.5, 0.6), Box(0.4, 0.4, 0.9, 0.9)
TRANSFORM = Transform((0.5, 0.0, 0.1, 0.0, 0.5, 0.2))


def off(*signals: SignalType) -> dict[SignalType, Threshold]:
    return {signal: Threshold(THRESHOLDS[signal].value, disabled=True) for signal in signals}


def matched(
    found: dict[SignalType, Found],
    thresholds: dict[SignalType, Threshold] | None = None,
    kind: BankKind = BankKind.BANNED,
) -> Match | None:
    of = bank(kind, THRESHOLDS | (thresholds or {}))
    candidate = Candidate()
    for signal, one in found.items():
        candidate.note(signal, one)
    return match_of(entry(of), of, candidate)


def said(match: Match | None) -> dict[SignalType, tuple[float, bool]]:
    assert match is not None
    return {one.signal: (one.value, one.reached) for one in match.evidence}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({PDQ: 31.0}, PDQ),
        ({PDQ: 31.0, LOCAL: 99.0, EMBEDDING: 0.99}, PDQ),
        ({PDQ: 32.0, LOCAL: 12.0, EMBEDDING: 0.99}, LOCAL),
        ({PDQ: 32.0, LOCAL: 11.0, EMBEDDING: 0.8}, EMBEDDING),
        ({LOCAL: 12.0}, LOCAL),
        ({EMBEDDING: 0.8}, EMBEDDING),
    ],
)
def test_the_signal_that_says_most_of_those_that_reach_their_threshold_names_the_match(
    values: dict[SignalType, float], names: SignalType
) -> None:
    match = matched({signal: Found(value) for signal, value in values.items()}, off(COMBINED))
    assert match is not None
    assert match.signal is names
    assert match.threshold == THRESHOLDS[names].value
    assert match.score == (1 - values[PDQ] / 256 if names is PDQ else values[names])


@pytest.mark.parametrize("values", [{PDQ: 32.0}, {EMBEDDING: 0.799}, {LOCAL: 11.0}, {}])
def test_an_entry_that_no_signal_recognises_is_no_match(values: dict[SignalType, float]) -> None:
    assert matched({signal: Found(value) for signal, value in values.items()}, off(COMBINED)) is None


def test_all_that_was_compared_is_evidence_reached_or_not() -> None:
    match = matched({PDQ: Found(100.0), EMBEDDING: Found(0.81), LOCAL: Found(5.0)})
    values = said(match)
    assert list(values) == [PDQ, EMBEDDING, LOCAL, COMBINED]
    assert [values[one] for one in (PDQ, EMBEDDING, LOCAL)] == [(100.0, False), (0.81, True), (5.0, False)]
    fused = fusion_for(BankKind.BANNED).score(100, 0.81, 5)
    assert values[COMBINED][0] == pytest.approx(fused)
    assert values[COMBINED][1] is (fused >= 0.9)


def test_signals_together_may_recognise_what_none_does_alone() -> None:
    found = {
        PDQ: Found(60.0, 60.0),
        EMBEDDING: Found(0.75, 0.25, 1, HERE),
        LOCAL: Found(11.0, 0.0, 1, THERE, TRANSFORM),
    }
    match = matched(found, {COMBINED: Threshold(0.5)})
    assert match is not None
    assert match.signal is COMBINED
    assert match.score == pytest.approx(fusion_for(BankKind.BANNED).score(60, 0.75, 11))
    assert (match.distance, match.threshold) == (0.0, 0.5)
    assert (match.region, match.frame, match.transform) == (THERE, 1, TRANSFORM), "where the keypoints are"
    del found[LOCAL]
    match = matched(found, {COMBINED: Threshold(0.1)})
    assert match is not None
    assert (match.region, match.frame, match.transform) == (HERE, 1, None), "else where the vectors are"
    assert matched(found, off(COMBINED)) is None


def test_the_fused_score_is_of_the_banks_kind() -> None:
    found = {EMBEDDING: Found(5.0), LOCAL: Found(8.0)}
    brand = matched(found, {EMBEDDING: Threshold(4.0)}, BankKind.BRAND)
    assert said(brand)[COMBINED][0] == pytest.approx(fusion_for(BankKind.BRAND).score(None, 5, 8))


@pytest.mark.parametrize("signal", [PDQ, EMBEDDING, LOCAL])
def test_a_signal_that_is_off_is_no_evidence_and_counts_nowhere(signal: SignalType) -> None:
    best = {PDQ: Found(0.0), EMBEDDING: Found(1.0), LOCAL: Found(300.0)}
    match = matched(best, off(signal))
    values = said(match)
    assert signal not in values
    left = {one: best[one].value for one in best if one is not signal}
    expected = fusion_for(BankKind.BANNED).score(left.get(PDQ), left.get(EMBEDDING), left.get(LOCAL))
    assert values[COMBINED][0] == pytest.approx(expected)
    assert matched({signal: best[signal]}, off(signal)) is None, "and alone it recognises nothing"


def test_all_signals_off_recognise_nothing() -> None:
    best = {PDQ: Found(0.0), EMBEDDING: Found(1.0), LOCAL: Found(300.0)}
    assert matched(best, off(PDQ, EMBEDDING, LOCAL)) is None


def test_the_region_is_the_geometric_checks_where_it_recognises_the_entry() -> None:
    local = Found(12.0, 0.0, 2, THERE, TRANSFORM)
    for found in ({LOCAL: local}, {LOCAL: local, EMBEDDING: Found(0.9, 0.1, 0, HERE)}):
        match = matched(found)
        assert match is not None
        assert (match.region, match.frame, match.transform) == (THERE, 2, TRANSFORM)


def test_the_region_is_the_windows_where_the_geometric_check_falls_short() -> None:
    match = matched({EMBEDDING: Found(0.9, 0.1, 0, HERE), LOCAL: Found(11.0, 0.0, 0, THERE, TRANSFORM)}, off(COMBINED))
    assert match is not None
    assert (match.signal, match.region) == (EMBEDDING, HERE)
    assert match.transform is TRANSFORM, "of the same frame it is still told"
    other = matched({EMBEDDING: Found(0.9, 0.1, 0, HERE), LOCAL: Found(11.0, 0.0, 1, THERE, TRANSFORM)}, off(COMBINED))
    assert other is not None
    assert other.transform is None, "of another frame it would say what is not so"


def test_a_match_by_pdq_is_of_the_whole_picture() -> None:
    match = matched({PDQ: Found(4.0, 4.0, 3), LOCAL: Found(80.0, 0.0, 3, THERE, TRANSFORM)})
    assert match is not None
    assert (match.signal, match.region, match.frame, match.distance) == (PDQ, None, 3, 4.0)
    assert match.transform is TRANSFORM


def test_a_candidate_keeps_the_best_of_each_signal() -> None:
    candidate = Candidate()
    for value in (40.0, 12.0, 30.0):
        candidate.note(PDQ, Found(value, frame=int(value)))
    for value in (0.2, 0.9, 0.5):
        candidate.note(EMBEDDING, Found(value))
    for value in (8.0, 60.0, 20.0):
        candidate.note(LOCAL, Found(value))
    assert candidate.found[PDQ] == Found(12.0, frame=12), "fewer bits are better"
    assert (candidate.value(EMBEDDING), candidate.value(LOCAL), candidate.value(COMBINED)) == (0.9, 60.0, None)


def sightings(*seen: tuple[int, SignalType, float]) -> Candidates:
    candidates = Candidates()
    candidates.note(Sighting(key, signal, Found(value)) for key, signal, value in seen)
    return candidates


def test_the_best_candidates_come_first_and_equal_ones_in_the_order_of_their_keys() -> None:
    found = sightings(
        (1, PDQ, 20),
        (2, PDQ, 3),
        (3, PDQ, 20),
        (4, EMBEDDING, 0.2),
        (2, EMBEDDING, 0.7),
        (6, EMBEDDING, 0.9),
        (5, EMBEDDING, 0.9),
    )
    assert found.best(PDQ, 10) == [2, 1, 3]
    assert found.best(EMBEDDING, 3) == [5, 6, 2]
    assert found.best(LOCAL, 3) == []
    assert (len(found), sorted(found.keys())) == (6, [1, 2, 3, 4, 5, 6])
    assert sorted(found.lacking(PDQ)) == [4, 5, 6]
    assert sorted(found.lacking(EMBEDDING)) == [1, 3]


def test_what_the_catalogue_no_longer_has_is_no_match() -> None:
    of = bank(thresholds=THRESHOLDS)
    found = sightings((1, PDQ, 0), (2, PDQ, 0), (3, PDQ, 200))
    matches = found.matches({1: (entry(of, 1), of), 3: (entry(of, 3), of)})
    assert [match.entry.key for match in matches] == [1]
    assert matches[0].evidence[0] == Evidence(PDQ, 0, reached=True)


def test_a_shape_strengthens_what_keypoints_say_and_keeps_their_place() -> None:
    candidates = Candidates()
    candidates.note([Sighting(1, LOCAL, Found(4.0, 0.0, 0, HERE, TRANSFORM))])
    candidates.strengthen(Sighting(key, LOCAL, Found(2.0, 0.0, 0, THERE)) for key in (1, 2))
    places = candidates.places(LOCAL, 2)
    with_keypoints, without_any = places[1], places[2]
    assert with_keypoints.value > without_any.value > 0
    assert with_keypoints.value > 4.0
    assert (with_keypoints.region, with_keypoints.transform) == (HERE, TRANSFORM)
    assert (without_any.region, without_any.transform) == (THERE, None)


def test_a_shape_in_another_frame_leaves_the_keypoints_alone() -> None:
    candidates = Candidates()
    candidates.note([Sighting(1, LOCAL, Found(4.0, 0.0, 0, HERE))])
    candidates.strengthen([Sighting(1, LOCAL, Found(2.0, 0.0, 3, THERE))])
    assert candidates.places(LOCAL, 1)[1] == Found(4.0, 0.0, 0, HERE)


def cleared_by_frames(*sightings: Sighting, frames: int = 2, doubted: bool = False) -> bool:
    """Whether the ALLOWED entry 1 (or 2) may clear anything of a picture of so many frames."""
    allowed, held = bank(BankKind.ALLOWED), Quarantine(QuarantineReason.BY_HAND, "", NOW)
    candidates = Candidates()
    candidates.frames = frozenset(range(frames))
    candidates.note(sightings)
    kept = candidates.only([1, 2])
    entries = {key: (entry(allowed, key, quarantine=held if doubted and key == 2 else None), allowed) for key in (1, 2)}
    first, *_ = kept.matches(entries)
    return first.clears


def seen(key: int, distance: float, frame: int) -> Sighting:
    return Sighting(key, PDQ, Found(distance, distance, frame))


def test_an_animation_is_cleared_where_each_frame_is_an_allowed_picture() -> None:
    assert cleared_by_frames(seen(1, 3, 0), frames=1)
    assert not cleared_by_frames(seen(1, 3, 0)), "the other frame may be anything"
    assert cleared_by_frames(seen(1, 3, 0), seen(1, 8, 1))
    assert not cleared_by_frames(seen(1, 3, 0), seen(1, 9, 1)), "over the bank's threshold of 8 bits"
    assert cleared_by_frames(seen(1, 3, 0), seen(2, 5, 1)), "two allowed pictures, one after the other"
    assert not cleared_by_frames(seen(1, 3, 0), seen(2, 5, 1), doubted=True), "one of them is quarantined"
