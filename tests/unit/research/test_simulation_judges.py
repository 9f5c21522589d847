from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from cjtasks.research.judges import LANGUAGE_MODEL, PLAIN, Judge, Temper

ALIKE = np.zeros(2)


def judge(truth: object, temper: Temper = PLAIN, seed: int = 1) -> Judge:
    return Judge(np.array(truth, np.float64), temper, np.random.default_rng(seed))


def share(one: Judge, pair: tuple[int, int], times: int = 4000) -> float:
    return float(one.answers([pair] * times).mean())


def test_a_judge_without_noise_always_prefers_the_better_essay() -> None:
    truth = [0.3, -1.0, 2.0, 0.2]
    pairs = list(permutations(range(4), 2))
    assert judge(truth, Temper(noise=0)).answers(pairs).tolist() == [truth[a] > truth[b] for a, b in pairs]


@pytest.mark.parametrize("lead", [-1.5, 0.0, 0.7, 2.0])
def test_a_plain_judge_answers_as_bradley_and_terry_say(lead: float) -> None:
    assert share(judge([lead, 0.0]), (0, 1)) == pytest.approx(1 / (1 + np.exp(-lead)), abs=0.025)


def test_a_side_preference_favours_what_is_shown_first_whichever_it_is() -> None:
    one = judge(ALIKE, Temper(side=1.0))
    expected = 1 / (1 + np.exp(-1.0))
    assert share(one, (0, 1)) == pytest.approx(expected, abs=0.025)
    assert share(one, (1, 0)) == pytest.approx(expected, abs=0.025)


def test_a_quirk_belongs_to_the_pair_and_not_to_the_side() -> None:
    one = judge(np.zeros(12), Temper(noise=0, quirk=0.5))
    pairs = list(permutations(range(12), 2))
    first, again = one.answers(pairs), one.answers(pairs)
    turned = one.answers([(b, a) for a, b in pairs])
    assert (first == again).all()
    assert (first != turned).all()


def test_quirks_have_the_spread_that_was_asked_for() -> None:
    # A pair's quirk is larger than the lead of 1 against it in as many pairs as a normal of that spread says.
    truth = np.repeat([0.0, 1.0], 60)
    pairs = [(a, b) for a in range(60) for b in range(60, 120)]
    assert judge(truth, Temper(noise=0, quirk=1.0)).answers(pairs).mean() == pytest.approx(0.159, abs=0.025)


def test_a_judge_who_always_lapses_tosses_a_coin() -> None:
    assert share(judge([9.0, 0.0], Temper(side=3.0, lapse=1.0)), (0, 1)) == pytest.approx(0.5, abs=0.025)


def test_a_judge_repeats_the_answer_to_the_same_question_and_judges_the_turned_one_anew() -> None:
    answers = [judge(ALIKE, Temper(repeat=1.0), seed).answers([(0, 1), (1, 0), (0, 1)]) for seed in range(40)]
    assert all(once == again for once, _, again in answers)
    assert {(bool(once), bool(turned)) for once, turned, _ in answers} == {(a, b) for a in (0, 1) for b in (0, 1)}


def test_a_judge_who_repeats_half_of_the_time_agrees_with_the_last_answer_in_three_quarters() -> None:
    answers = judge(ALIKE, Temper(repeat=0.5)).answers([(0, 1)] * 4000)
    assert (answers[1:] == answers[:-1]).mean() == pytest.approx(0.75, abs=0.025)


def test_the_same_seed_gives_the_same_answers() -> None:
    pairs = list(permutations(range(8), 2))
    truth = np.linspace(-1, 1, 8)
    one, same, other = (judge(truth, LANGUAGE_MODEL, seed).answers(pairs) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("noise", -0.1),
        ("noise", np.nan),
        ("side", np.inf),
        ("quirk", -1),
        ("lapse", 1.1),
        ("lapse", -0.1),
        ("repeat", 2),
    ],
)
def test_a_temper_out_of_range_is_refused_by_the_name_of_its_field(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{field} must "):
        Temper(**{field: value})
