from importlib.resources import files

import pytest
from scipy.stats import spearmanr

from cjtasks.dev.demo_essays import INTENDED_QUALITY, demo_assignment, demo_essays
from cjtasks.dev.judges import MEASURES, Measure, quality


def test_every_file_of_an_essay_has_a_name_and_every_name_has_its_essay() -> None:
    stored = [entry.name for entry in files("cjtasks.dev").joinpath("essays").iterdir()]
    assert sorted(stored) == ["assignment.txt", *(f"essay-{n:02}.txt" for n in range(1, 25))]
    assert demo_essays().keys() == INTENDED_QUALITY.keys()


def test_every_essay_is_its_own_and_as_long_as_the_assignment_asks() -> None:
    texts = demo_essays().values()
    assert len(set(texts)) == 24
    assert all(120 <= len(text.split()) <= 260 for text in texts)
    assert "120 to 260 words" in demo_assignment()


def test_all_five_levels_are_there_and_the_order_of_the_files_does_not_give_them_away() -> None:
    levels = list(INTENDED_QUALITY.values())
    assert set(levels) == {1, 2, 3, 4, 5}
    assert abs(spearmanr(range(24), levels).statistic) < 0.2


def test_the_text_judges_quality_agrees_with_the_intended_one() -> None:
    essays = demo_essays()
    measured = [quality(essays[name]) for name in INTENDED_QUALITY]
    assert spearmanr(measured, list(INTENDED_QUALITY.values())).statistic > 0.8


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.in_words)
def test_no_measure_speaks_against_the_intended_quality(measure: Measure) -> None:
    essays = demo_essays()
    values = [measure.value(essays[name]) for name in INTENDED_QUALITY]
    assert spearmanr(values, list(INTENDED_QUALITY.values())).statistic > 0.3
