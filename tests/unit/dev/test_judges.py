from collections import Counter
from math import exp
from pathlib import Path
from random import Random
from statistics import fmean, pstdev

import pytest

from cjtasks.dev.demo_essays import demo_essays
from cjtasks.dev.judges import (
    MEASURES,
    Judge,
    LatentJudge,
    ReplayJudge,
    Shown,
    Temperament,
    TextJudge,
    Verdict,
    quality,
    rng_for,
)
from cjtasks.errors import Misconfigured

ESSAYS = demo_essays()
EQUALS = LatentJudge(scores={"a": 0.0, "b": 0.0})


def shown(a: str, b: str) -> Shown:
    return Shown(a, b, ESSAYS.get(a, ""), ESSAYS.get(b, ""))


def share_for_a(judge: Judge, question: Shown, asked: int = 4000) -> float:
    answers = (judge(question, rng_for("share", number)).winner for number in range(asked))
    return fmean(winner == "Essay A" for winner in answers)


@pytest.mark.parametrize("judge", [LatentJudge(), TextJudge(), ReplayJudge({})])
def test_a_question_gets_the_same_verdict_whatever_was_asked_before_it(judge: Judge) -> None:
    questions = [shown(a, b) for a in ESSAYS for b in ("Amira", "Tove") if a != b]
    forwards = [judge(question, rng_for(1, question)) for question in questions]
    backwards = [judge(question, rng_for(1, question)) for question in reversed(questions)]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) > 1


def test_randomness_depends_on_every_name_and_on_nothing_else() -> None:
    assert rng_for(7, "c-1", 1).random() == rng_for(7, "c-1", 1).random()
    others = [rng_for(8, "c-1", 1), rng_for(7, "c-2", 1), rng_for(7, "c-1", 2), rng_for(7, "c-1", "1")]
    assert len({rng_for(7, "c-1", 1).random(), *(other.random() for other in others)}) == 5


def test_randomness_is_the_same_in_every_process_and_release() -> None:
    assert rng_for("verdict", 7).randrange(10**9) == Random(6025222873695675908).randrange(10**9)


def test_a_latent_judge_answers_by_bradley_and_terry() -> None:
    judge = LatentJudge(scores={"a": 1.0, "b": -0.5})
    assert share_for_a(judge, shown("a", "b")) == pytest.approx(1 / (1 + exp(-1.5)), abs=0.03)
    assert share_for_a(judge, shown("b", "a")) == pytest.approx(1 / (1 + exp(1.5)), abs=0.03)


def test_side_preference_favours_essay_a_by_its_logits() -> None:
    judge = LatentJudge(EQUALS.scores, temperament=Temperament(side=0.8))
    assert share_for_a(judge, shown("a", "b")) == pytest.approx(1 / (1 + exp(-0.8)), abs=0.03)


def test_a_lapse_is_a_coin_toss() -> None:
    judge = LatentJudge({"a": 50.0, "b": 0.0}, temperament=Temperament(lapse=0.4))
    assert share_for_a(judge, shown("a", "b")) == pytest.approx(0.8, abs=0.03)


def test_a_sticky_judge_repeats_its_answer_to_an_ordered_pair() -> None:
    sticky = LatentJudge(EQUALS.scores, temperament=Temperament(stickiness=1.0))
    assert share_for_a(sticky, shown("a", "b"), asked=50) in (0.0, 1.0)
    seeds = (LatentJudge(temperament=Temperament(stickiness=1.0, seed=seed)) for seed in range(40))
    assert {seed(shown("a", "b"), Random(1)).winner for seed in seeds} == {"Essay A", "Essay B"}
    assert 0.4 < share_for_a(EQUALS, shown("a", "b")) < 0.6


def test_true_scores_that_were_not_given_are_normal_with_the_spread_and_fixed_by_the_seed() -> None:
    judge = LatentJudge(spread=1.5, seed=3)
    drawn = [judge.true_score(f"e-{number}") for number in range(4000)]
    assert fmean(drawn) == pytest.approx(0.0, abs=0.1)
    assert pstdev(drawn) == pytest.approx(1.5, abs=0.1)
    assert judge.true_score("e-1") == LatentJudge(spread=1.5, seed=3).true_score("e-1")
    assert judge.true_score("e-1") != LatentJudge(spread=1.5, seed=4).true_score("e-1")


@pytest.mark.parametrize(
    "judge", [LatentJudge(spread=30.0), TextJudge(), TextJudge(sharpness=1e9), ReplayJudge({("Tove", "Ines"): 9})]
)
def test_every_verdict_fits_the_wire(judge: Judge) -> None:
    for number, a in enumerate(ESSAYS):
        for b in ESSAYS:
            verdict = judge(shown(a, b), Random(number))
            assert verdict.winner in ("Essay A", "Essay B")
            assert 1.0 <= verdict.confidence <= 5.0
            assert 0 < len(verdict.justification) <= 500


def test_the_text_judge_prefers_good_writing_on_either_side() -> None:
    judge = TextJudge()
    assert share_for_a(judge, shown("Ines", "Chidi"), asked=500) > 0.97
    assert share_for_a(judge, shown("Chidi", "Ines"), asked=500) < 0.03
    assert 0.2 < share_for_a(judge, shown("Kaia", "Vera"), asked=500) < 0.8


def test_the_text_judge_is_surer_of_a_clear_case_than_of_a_close_one() -> None:
    clear = TextJudge()(shown("Ines", "Chidi"), Random(1))
    close = TextJudge()(shown("Kaia", "Vera"), Random(1))
    assert clear.confidence > 4.5
    assert close.confidence < 2


def test_the_justification_names_the_measure_that_decided() -> None:
    tidy = "The council is right. Its plan helps everyone who walks. The square is ours again."
    untidy = tidy.lower().replace(" is", " ,is")
    verdict = TextJudge(sharpness=1e9)(Shown("a", "b", untidy, tidy), Random(1))
    assert verdict.winner == "Essay B"
    assert verdict.justification.endswith("it has fewer slips in spelling and punctuation.")


def test_a_winner_with_nothing_in_its_favour_is_said_to_win_by_a_hair() -> None:
    verdict = TextJudge()(Shown("a", "b", ESSAYS["Amira"], ESSAYS["Amira"]), Random(1))
    assert "by a hair" in verdict.justification
    assert verdict.confidence == 1.0


@pytest.mark.parametrize("text", ["", "   \n", "!!!", "1234", "\x00", "word", "a" * 100_000, "é. " * 50])
def test_any_text_at_all_has_a_quality_between_nothing_and_one(text: str) -> None:
    assert 0.0 <= quality(text) <= 1.0


def test_the_weights_of_the_measures_add_up_to_one() -> None:
    assert sum(measure.weight for measure in MEASURES) == pytest.approx(1.0)


def test_replay_answers_by_the_majority_whichever_way_round_it_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "decisions.csv"
    file.write_text("winner,loser,judge\nx,y,Ann\nx,y,Bo\ny,x,Cy\nz,x,Ann\n", "utf-8")
    judge = ReplayJudge.from_csv(file)
    assert share_for_a(judge, Shown("x", "y", "", ""), asked=50) == 1.0
    assert share_for_a(judge, Shown("y", "x", "", ""), asked=50) == 0.0
    assert judge(Shown("z", "x", "", ""), Random(1)) == Verdict(
        "Essay A", 5.0, "1 recorded decisions for Essay A, 0 for Essay B."
    )


@pytest.mark.parametrize("wins", [Counter(), Counter({("x", "y"): 2, ("y", "x"): 2})])
def test_replay_tosses_a_coin_for_ties_and_unknown_pairs(wins: Counter[tuple[str, str]]) -> None:
    judge = ReplayJudge(wins)
    assert 0.45 < share_for_a(judge, Shown("x", "y", "", "")) < 0.55
    assert judge(Shown("x", "y", "", ""), Random(1)).confidence == 1.0


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "header needs winner and loser"),
        ("a,b\nx,y\n", "header needs winner and loser"),
        ("winner,loser\nx,y\nx,\n", "line 3"),
        ("winner,loser\nx\n", "line 2"),
        ("winner,loser\nx,x\n", "line 2"),
    ],
)
def test_a_replay_file_that_cannot_be_used_is_refused_with_its_place(tmp_path: Path, content: str, named: str) -> None:
    file = tmp_path / "decisions.csv"
    file.write_text(content, "utf-8")
    with pytest.raises(Misconfigured, match=named):
        ReplayJudge.from_csv(file)
