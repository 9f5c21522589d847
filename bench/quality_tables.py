"""The questions that `bench.quality` answers, each as a table in Markdown with a line on what was hoped for."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from bench.quality_trials import COSTS, LARGE, REAL, SPREADS, STOP, USED, Case, Key, Results, cases
from cjtasks.research.designs import DesignName
from cjtasks.research.simulation import stops
from cjtasks.research.summary import Estimate, equal_cost_estimate, estimate

if TYPE_CHECKING:
    from cjtasks.domain.votes import FloatArray
    from cjtasks.research.measures import Measures

COIN_TOSS_LIMIT, COIN_TOSS_LIMIT_OF_FEW, FEW = 0.15, 0.20, 11
OVERSTATEMENT_LIMIT = 0.03
COVERAGE_LOW, COVERAGE_HIGH = 0.92, 0.98
SAVING_GOAL, GOAL_SPREAD = 25, 2.5


def coin_toss(results: Results) -> str:
    tossed = [case for case in cases() if not case.spread]
    rows = [
        _case(results, case)
        | {f"{design}: reliability (SSR)": _reliability_and_ssr(results, case, design) for design in DesignName}
        for case in tossed
    ]
    largest = {
        case: max(_value(results, case, design, "honest_reliability").mean for design in USED) for case in tossed
    }
    few = max(mean for case, mean in largest.items() if case.essays <= FEW)
    many = max(mean for case, mean in largest.items() if case.essays > FEW)
    verdict = (
        f"Largest mean of ours and random: {few:.3f} with 6 essays (hoped for: at most {COIN_TOSS_LIMIT_OF_FEW:.2f}), "
        f"{many:.3f} with 12 or more (at most {COIN_TOSS_LIMIT:.2f})."
    )
    return _section("What reliability is reported where all essays are equally good?", rows, verdict)


def real_differences(results: Results) -> str:
    there = [case for case in cases() if case.spread]
    rows = [_case(results, case) | _honesty(results, case) for case in there]
    largest = max(_overstatement(results, case, design).mean for case in there for design in USED)
    verdict = f"The reliability is at most {largest:+.3f} above the true r2 (hoped for: {OVERSTATEMENT_LIMIT:+.2f})."
    return _section("Is the reliability as high as the true r2, where there are differences?", rows, verdict)


def coverage(results: Results) -> str:
    there = [case for case in cases() if case.spread and case.essays > FEW]
    rows = [_case(results, case) | _covered(results, case) for case in there]
    plain = [
        _value(results, case, design, name).mean
        for case, design, name in product(there, USED, ("coverage", "difference_coverage"))
        if case.judge == "plain"
    ]
    verdict = (
        f"With the plain judge {min(plain):.3f} to {max(plain):.3f} (hoped for: {COVERAGE_LOW} to {COVERAGE_HIGH})."
    )
    return _section("How many of the 95 % intervals hold the truth?", rows, verdict)


def saving(results: Results) -> str:
    compared = [case for case in cases() if case.essays in LARGE and case.spread in REAL]
    rows = [_case(results, case) | _savings(results, case) for case in compared]
    goal = [case for case in compared if case.spread == GOAL_SPREAD and case.judge == "plain"]
    smallest = min(_saving(results, case, DesignName.OURS).mean for case in goal)
    verdict = (
        f"Smallest saving of ours at spread {GOAL_SPREAD} with the plain judge: {smallest:.0f} % "
        f"(hoped for: {SAVING_GOAL} % or more)."
    )
    return _section("How many comparisons are saved at equal accuracy?", rows, verdict)


def stop_rule(results: Results) -> str:
    stopped = [Case(essays, spread, "plain") for essays, spread in product(LARGE, SPREADS)]
    rows = [_case(results, case) | _stopping(case, results[Key(case, DesignName.OURS, None)]) for case in stopped]
    verdict = f"The rule: the lower quartile of the reliability reaches {STOP.target}; at most {STOP.most:.0f}."
    return _section("When does the stop rule end a session?", rows, verdict)


QUESTIONS = (coin_toss, real_differences, coverage, saving, stop_rule)


def _case(results: Results, case: Case) -> dict[str, str]:
    sessions = len(results[Key(case, DesignName.OURS, case.cost)])
    return {"essays": str(case.essays), "judge": case.judge, "spread": f"{case.spread:g}", "sessions": str(sessions)}


def _values(results: Results, key: Key, name: str) -> FloatArray:
    return np.array([getattr(measures, name) for measures in results[key]], np.float64)


def _value(results: Results, case: Case, design: DesignName, name: str) -> Estimate:
    return estimate(_values(results, Key(case, design, case.cost), name))


def _reliability_and_ssr(results: Results, case: Case, design: DesignName) -> str:
    reliability, ssr = (_value(results, case, design, name) for name in ("honest_reliability", "ssr"))
    return f"{_text(reliability)} ({ssr.mean:.2f})"


def _overstatement(results: Results, case: Case, design: DesignName) -> Estimate:
    key = Key(case, design, case.cost)
    return estimate(_values(results, key, "honest_reliability") - _values(results, key, "r2"))


def _honesty(results: Results, case: Case) -> dict[str, str]:
    true, ssr = (_value(results, case, DesignName.OURS, name).mean for name in ("r2", "ssr"))
    row = {"ours: reliability": _text(_value(results, case, DesignName.OURS, "honest_reliability"))}
    row |= {"true r2": f"{true:.3f}", "SSR": f"{ssr:.3f}"}
    for design in USED:
        over = _overstatement(results, case, design)
        row[f"{design}: reliability - r2"] = f"{over.mean:+.3f} ±{over.error:.3f}"
    return row


def _covered(results: Results, case: Case) -> dict[str, str]:
    measured = product(USED, (("scores", "coverage"), ("differences", "difference_coverage")))
    return {f"{design}: {what}": _text(_value(results, case, design, name)) for design, (what, name) in measured}


def _equal_cost(results: Results, case: Case, design: DesignName) -> Estimate:
    random = np.column_stack([_values(results, Key(case, DesignName.RANDOM, at), "tau") for at in COSTS])
    reached = _values(results, Key(case, design, case.cost), "tau")
    return equal_cost_estimate(np.array(COSTS), random, reached, np.random.default_rng(0))


def _saving(results: Results, case: Case, design: DesignName) -> Estimate:
    """Return how many % fewer comparisons than random ones were needed; its error to first order."""
    equal = _equal_cost(results, case, design)
    return Estimate(100 * (1 - case.cost / equal.mean), 100 * case.cost / equal.mean**2 * equal.error)


def _savings(results: Results, case: Case) -> dict[str, str]:
    row = {}
    for design in (each for each in DesignName if each is not DesignName.RANDOM):
        equal, saved = _equal_cost(results, case, design), _saving(results, case, design)
        row[f"{design}: tau"] = _text(_value(results, case, design, "tau"))
        row[f"{design}: saving"] = f"{saved.mean:.0f} ±{saved.error:.0f} % (= {equal.mean:.1f})"
    return row


def _stopping(case: Case, sessions: list[Measures]) -> dict[str, str]:
    stopped = [each for each in sessions if stops(case.essays, each, STOP.target)]
    true = np.array([each.r2 for each in stopped], np.float64)
    return {
        "comparisons an essay": f"{np.mean([each.comparisons_per_essay for each in sessions]):.1f}",
        "stopped": f"{len(stopped) / len(sessions):.1%}",
        "true r2 of these": f"{true.mean():.3f}" if true.size else "-",
        f"of these below {STOP.target - 0.05:.2f}": f"{(true < STOP.target - 0.05).mean():.0%}" if true.size else "-",
    }


def _section(question: str, rows: list[dict[str, str]], verdict: str) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join([f"### {question}\n", *(f"| {' | '.join(line)} |" for line in lines), f"\n{verdict}\n"])


def _text(value: Estimate) -> str:
    return f"{value.mean:.3f} ±{value.error:.3f}"
