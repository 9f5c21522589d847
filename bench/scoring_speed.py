"""How long the scores take beside choix and evalica, on the same comparisons in the same run.

`python -m bench.scoring_speed`; the dependency group `bench` brings the other tools. They give scores alone, and only
where the maximum likelihood estimate exists: so the comparisons are cut to essays for which it does.
Ours are the whole fit: scores, standard errors, infit, outfit, components, reliability.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import root
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from cjtasks.domain.scoring import fit

if TYPE_CHECKING:
    from collections.abc import Callable

    from cjtasks.domain.scoring import FloatArray, IntArray

SIZES = [(30, 140), (100, 1_000), (1_000, 10_000), (10_000, 100_000), (100_000, 1_000_000)]
ENOUGH = 10.0  # Seconds in which one tool has been measured at one size.
ROUNDS_FOR = 2.0  # Seconds of taking turns, so that what else the machine does hits all alike.
LEAST_ROUNDS, MOST_ROUNDS = 5, 400
AGREEMENT = 1e-8


class Outcomes(NamedTuple):
    n: int
    winners: IntArray
    losers: IntArray


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    package: str | None
    prepared: Callable[[Outcomes], Callable[[], object]]
    most_essays: int = SIZES[-1][0]
    beyond: str = ""  # Why it is not measured for more.


def balanced(n: int, m: int) -> Outcomes:
    """Draw m comparisons in rounds where each essay is first once and second once; the true scores have sd 1."""
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=n)
        rounds = [rng.permutation(n) for _ in range(-(-m // n))]
        first, second = np.concatenate(rounds)[:m], np.concatenate([np.roll(one, 1) for one in rounds])[:m]
        won = rng.random(m) < 1 / (1 + np.exp(truth[second] - truth[first]))
        outcomes = _strongly_joined(Outcomes(n, np.where(won, first, second), np.where(won, second, first)))
        # A thousandth fewer essays hardly change the time, but three fewer of thirty do.
        if outcomes.n >= 0.99 * n:
            return outcomes
    raise RuntimeError(f"no draw of {m} comparisons of {n} essays joins them all")


def _strongly_joined(outcomes: Outcomes) -> Outcomes:
    """Keep the largest set of essays of which each is beaten, in a chain, by each."""
    n, winners, losers = outcomes
    graph = csr_array((np.ones(winners.size), (winners, losers)), shape=(n, n))
    _, label = connected_components(graph, connection="strong")
    kept = label == np.bincount(label).argmax()
    position, inside = np.cumsum(kept) - 1, kept[winners] & kept[losers]
    return Outcomes(int(kept.sum()), position[winners[inside]], position[losers[inside]])


def _ours(outcomes: Outcomes) -> Callable[[], object]:
    return lambda: fit(outcomes.winners, outcomes.losers, outcomes.n)


def _evalica(outcomes: Outcomes) -> Callable[[], object]:
    import evalica  # noqa: PLC0415  It need not be installed.

    winners, losers = outcomes.winners.tolist(), outcomes.losers.tolist()
    sides = [evalica.Winner.X] * len(winners)
    return lambda: evalica.bradley_terry(winners, losers, sides)


def _choix(method: str) -> Callable[[Outcomes], Callable[[], object]]:
    def prepared(outcomes: Outcomes) -> Callable[[], object]:
        import choix  # noqa: PLC0415  It need not be installed.

        pairs = np.column_stack((outcomes.winners, outcomes.losers)).tolist()
        estimate = getattr(choix, method)
        return lambda: estimate(outcomes.n, pairs)

    return prepared


TOOLS = [
    Tool("cjtasks", None, _ours),
    Tool("evalica bradley_terry", "evalica", _evalica, 10_000, "too large a table"),
    Tool("choix ilsr_pairwise", "choix", _choix("ilsr_pairwise"), 1_000, "too large a table"),
    Tool("choix mm_pairwise", "choix", _choix("mm_pairwise"), 10_000, "over a minute"),
]


def measured(outcomes: Outcomes) -> list[str]:
    """Return for each tool the median time in milliseconds, or in a word why there is none."""
    cells: dict[str, str] = {}
    runs: dict[str, Callable[[], object]] = {}
    for tool in TOOLS:
        if tool.package is not None and importlib.util.find_spec(tool.package) is None:
            cells[tool.name] = "not installed"
        elif outcomes.n > tool.most_essays:
            cells[tool.name] = tool.beyond
        else:
            runs[tool.name] = tool.prepared(outcomes)
    times = _taking_turns(runs)
    cells |= {name: f"{statistics.median(taken) * 1e3:,.2f}" for name, taken in times.items()}
    return [cells[tool.name] for tool in TOOLS]


def _taking_turns(runs: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Time each run in turn; one that takes long has its turn less often."""
    times: dict[str, list[float]] = {name: [_seconds(run)] for name, run in runs.items()}
    until = time.perf_counter() + ROUNDS_FOR * len(runs)
    while any(_wants_more(taken, until) for taken in times.values()):
        for name, run in runs.items():
            if _wants_more(times[name], until):
                times[name].append(_seconds(run))
    return times


def _wants_more(taken: list[float], until: float) -> bool:
    if sum(taken) > ENOUGH:
        return False
    return len(taken) < LEAST_ROUNDS or (len(taken) < MOST_ROUNDS and time.perf_counter() < until)


def _seconds(run: Callable[[], object]) -> float:
    """Return the processor's time: with one thread it is the clock's, less what other programs took meanwhile."""
    start = time.process_time()
    run()
    return time.process_time() - start


def disagreement(outcomes: Outcomes, scores: FloatArray) -> float:
    """Return by how many logits scores differ from those of MINPACK's hybrid method on the dense equations."""
    beaten = np.bincount(outcomes.winners * outcomes.n + outcomes.losers, minlength=outcomes.n**2)
    beaten = beaten.reshape(outcomes.n, outcomes.n)
    met = beaten + beaten.T
    number = met.sum(axis=1)
    wins = 0.3 + (number - 0.6) / number * beaten.sum(axis=1)

    def equations(values: FloatArray) -> FloatArray:
        chance = 1 / (1 + np.exp(values - values[:, None]))
        missing = wins - (met * chance).sum(axis=1)
        information = (met * chance * chance.T).sum(axis=1)
        left = missing - missing.sum() / information.sum() * information
        return np.asarray(left + values.mean())

    reference = root(equations, np.zeros(outcomes.n), tol=1e-13).x
    return float(np.max(np.abs(scores - reference)))


def main() -> None:
    console, table = (
        Console(width=120),
        Table("essays", "comparisons", *(tool.name for tool in TOOLS), title="Milliseconds"),
    )
    for n, m in SIZES:
        outcomes = balanced(n, m)
        fitted = fit(outcomes.winners, outcomes.losers, outcomes.n)
        if n <= 100 and (off := disagreement(outcomes, fitted.scores)) > AGREEMENT:
            raise SystemExit(f"scores of {n} essays are {off:.1e} logits from the reference")
        table.add_row(f"{outcomes.n:,}", f"{outcomes.winners.size:,}", *measured(outcomes))
    console.print(table)
    console.print("Too large a table: of all pairs of essays, to be held in memory and solved in more than a minute.")


if __name__ == "__main__":
    main()
