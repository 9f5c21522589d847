from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from cjtasks.domain.information import PRIOR_SDS, Belief, believe, gain, most_likely
from cjtasks.domain.votes import Answers, FloatArray, IntArray, Votes, count_votes


def information(mode: FloatArray, pairs: IntArray, prior_sd: float = 1.5) -> FloatArray:
    """Sum the information on the scores pair by pair."""
    total = np.eye(mode.size) / prior_sd**2
    for i, j in pairs:
        d = np.eye(mode.size)[i] - np.eye(mode.size)[j]
        p = expit(mode[i] - mode[j])
        total += p * (1 - p) * np.outer(d, d)
    return total


def covariance(mode: FloatArray, pairs: IntArray, prior_sd: float = 1.5) -> FloatArray:
    return np.asarray(np.linalg.inv(information(mode, pairs, prior_sd)), np.float64)


def centred(whole: FloatArray) -> FloatArray:
    """Leave the common mean out, of which no comparison tells anything."""
    middle = np.eye(len(whole)) - 1 / len(whole)
    return np.asarray(middle @ whole @ middle, np.float64)


def votes(n: int, pairs: IntArray) -> Votes:
    """Let the first essay of each pair win."""
    first, second = pairs.T
    return count_votes(Answers(first, second, np.ones(len(pairs), np.bool_), n), repeats_count_once=False)


def judged_by(truth: FloatArray, comparisons: int, rng: np.random.Generator) -> Votes:
    first = rng.integers(truth.size, size=comparisons)
    second = (first + rng.integers(1, truth.size, size=comparisons)) % truth.size
    first_won = rng.random(comparisons) < expit(truth[first] - truth[second])
    return count_votes(Answers(first, second, first_won, truth.size), repeats_count_once=False)


MODE = np.array([-1.2, -0.3, 0.0, 0.4, 1.9])
PAIRS = np.array([(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (1, 0)])
COVARIANCE = covariance(MODE, PAIRS)


@pytest.mark.parametrize("known", [COVARIANCE, centred(COVARIANCE)])
def test_the_gain_of_a_pair_is_what_its_answer_adds_to_the_log_determinant(known: FloatArray) -> None:
    before = np.linalg.slogdet(information(MODE, PAIRS))[1]
    gains = gain(Belief(MODE, known))
    for i in range(5):
        for j in range(5):
            after = np.linalg.slogdet(information(MODE, np.vstack((PAIRS, (i, j)))))[1]
            assert gains[i, j] == pytest.approx(after - before, abs=1e-12)


def test_essays_compared_less_and_nearer_to_each_other_tell_more() -> None:
    mode = np.array([0.0, 0.1, 3.0, 0.0, 0.1, 3.0])
    gains = gain(Belief(mode, np.diag([0.2, 0.2, 0.2, 0.8, 0.8, 0.8])))
    assert gains[0, 1] > gains[0, 2]
    assert gains[3, 4] > gains[0, 1]


def test_what_open_pairs_will_tell_is_counted_but_moves_no_score() -> None:
    judged, open_pairs = PAIRS[:4], np.array([(4, 0), (1, 3), (3, 1)])
    sent = np.vstack((judged, open_pairs))
    alone, later = (believe(votes(5, judged), votes(5, pairs)) for pairs in (judged, sent))
    prior_sd = most_likely(votes(5, judged)).prior_sd

    assert later.mode == pytest.approx(alone.mode)
    for belief, pairs in ((alone, judged), (later, sent)):
        assert belief.covariance == pytest.approx(centred(covariance(belief.mode, pairs, prior_sd)), abs=1e-9)


@pytest.mark.parametrize("spread", PRIOR_SDS)
def test_the_prior_is_chosen_by_how_far_the_essays_lie_apart(spread: float) -> None:
    rng = np.random.default_rng(8)
    truth = rng.normal(0, 1, 60)
    assert most_likely(judged_by(spread * truth / truth.std(), 1200, rng)).prior_sd == spread


def test_without_any_answer_all_pairs_tell_the_same() -> None:
    nothing = votes(4, np.empty((0, 2), np.int64))
    gains = gain(believe(nothing, nothing))
    assert gains[~np.eye(4, dtype=bool)] == pytest.approx(gains[0, 1])
    assert gains[0, 1] > 0
