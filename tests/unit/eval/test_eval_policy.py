"""Thresholds from ordinary pictures, and the fit of the fused score, on answers made by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from imagewarden_eval import calibrate, fuse
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.service import Answer, Candidate
from imagewarden_server.matching.fusion import Fusion


def answer(**scores: float) -> Answer:
    return Answer({"x": Candidate("x", scores=dict(scores))} if scores else {}, (), 0.1, {})


def test_thresholds_keep_the_false_alarms_under_the_rate() -> None:
    answers = [answer(pdq=60 + number, embedding=number / 1_000, local=number % 8) for number in range(400)]
    answers += [answer() for _ in range(600)]
    policy = calibrate.calibrated(answers, 1e-2)
    # Ten of a thousand may pass: 0.390 to 0.399 do, and 0.389 does not.
    assert policy["thresholds"]["embedding"] == pytest.approx(0.390)
    assert policy["record"]["signals"]["embedding"]["false_alarms"] == 10
    assert policy["thresholds"]["pdq"] == 31  # never more than its authors recommend
    assert policy["thresholds"]["local"] == 8  # 50 pictures have 7 inliers: all of them, or none
    assert policy["record"]["signals"]["local"]["false_alarms"] == 0
    assert policy["record"]["false_alarms_of_any_signal"] == 10
    assert policy["record"]["proven_under"] > 1e-2


def test_few_pictures_prove_little_and_the_record_says_so() -> None:
    policy = calibrate.calibrated([answer(combined=0.31234, pdq=20.0), answer(combined=0.2)] + [answer()] * 98, 1e-4)
    assert policy["thresholds"]["combined"] == 0.3124
    assert policy["thresholds"]["pdq"] == 19  # 20 bits were seen on a picture that is no copy
    assert policy["record"]["false_alarms_of_any_signal"] == 0
    assert policy["record"]["proven_under"] == pytest.approx(3 / 100, rel=0.02)
    assert "30,000 queries without any would prove 0.0001" in policy["record"]["note"]
    with pytest.raises(EvaluationError, match="is the bank empty"):
        calibrate.calibrated([answer()] * 3, 1e-2)


def test_options_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    options = {"images": (tmp_path,), "out": tmp_path / "p.json", "command": "c"}
    with pytest.raises(EvaluationError, match="--bank NAME"):
        calibrate.run(calibrate.Options(**options, address="127.0.0.1:1"))  # type: ignore[arg-type]  # short cut
    with pytest.raises(EvaluationError, match="--address"):
        calibrate.run(calibrate.Options(**options, banks=("a",)))  # type: ignore[arg-type]  # short cut
    with pytest.raises(EvaluationError, match="--lower-thresholds"):
        calibrate.run(calibrate.Options(**options, banks=("a",), address="127.0.0.1:1"))  # type: ignore[arg-type]  # short cut
    with pytest.raises(EvaluationError, match="no rate"):
        calibrate.run(calibrate.Options(**options, fpr=2.0))  # type: ignore[arg-type]  # short cut


def test_a_fit_finds_the_weights_that_made_the_data() -> None:
    chance = np.random.default_rng(1)
    points = chance.uniform(0, 1, (20_000, 3)) * np.array([1.0, 1.0, 4.0])
    wanted = fuse.Fit((6.0, 3.0, 2.0), -9.0)
    right = chance.uniform(size=len(points)) < wanted.score(points)
    fitted = fuse.fit(points, right)
    # Both classes count the same, which moves the bias alone; the ridge shrinks a little.
    assert np.array(fitted.weights) / fitted.weights[1] == pytest.approx(np.array([2.0, 1.0, 2 / 3]), rel=0.12)
    order = np.corrcoef(np.argsort(np.argsort(fitted.score(points))), np.argsort(np.argsort(wanted.score(points))))
    assert order[0, 1] > 0.99


def test_weights_are_never_negative() -> None:
    chance = np.random.default_rng(2)
    points = chance.uniform(0, 1, (2_000, 3))
    fitted = fuse.fit(points, points[:, 0] - points[:, 1] > 0.1)  # the second speaks against
    assert fitted.weights[0] > 0
    assert fitted.weights[1] == 0
    with pytest.raises(EvaluationError, match="both kinds"):
        fuse.fit(points, np.ones(2_000, np.bool_))


def test_the_features_are_those_that_the_server_fuses() -> None:
    candidate = Candidate("x", scores={"pdq": 40.0, "embedding": 0.6, "local": 12.0})
    fitted = fuse.Fit((10.0, 14.0, 3.0), -13.0)
    server = Fusion(bias=-13.0, pdq=10.0, embedding=14.0, local=3.0)
    assert fitted.score(np.array([fuse.features(candidate)]))[0] == pytest.approx(server.score(40.0, 0.6, 12.0))
    nothing = fitted.score(np.array([fuse.features(Candidate("x"))]))[0]
    assert nothing == pytest.approx(server.score(None, None, None))


def test_equal_digests_teach_nothing() -> None:
    answers = [
        Answer({"a": Candidate("a", scores={"digest": 1.0, "pdq": 0.0}), "b": Candidate("b")}, (), 0.1, {}),
        Answer({"a": Candidate("a", scores={"local": math.e - 1})}, (), 0.1, {}),
    ]
    points, right = fuse.table(answers, ["a", "a"])
    assert right.tolist() == [False, True]
    assert points.tolist() == [[0.0, 0.0, 0.0], [0.0, 0.0, pytest.approx(1.0)]]
