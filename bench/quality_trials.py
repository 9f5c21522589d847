"""What `bench.quality` tries: essays, spreads, judges and designs, each in many sessions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from cjtasks.research.designs import DesignName
from cjtasks.research.judges import LANGUAGE_MODEL, PLAIN
from cjtasks.research.simulation import Scenario, UntilReliable, measured_at, measured_when_stopped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cjtasks.research.measures import Measures

SESSIONS = {6: 200, 12: 400, 30: 200, 100: 60}
SPREADS = (0.0, 0.6, 1.2, 2.5)
JUDGES = {"plain": PLAIN, "language model": LANGUAGE_MODEL}
USED = (DesignName.OURS, DesignName.RANDOM)
COSTS = tuple(float(each) for each in range(10, 33, 2))
LARGE = (30, 100)  # Essays for which savings and the stop rule are tried.
REAL = (1.2, 2.5)  # Spreads for which savings are tried.
STOP = UntilReliable(target=0.8, most=16.0)


@dataclass(frozen=True, slots=True)
class Case:
    """Essays, the spread of their true scores, and the judge by name."""

    essays: int
    spread: float
    judge: str

    @property
    def cost(self) -> float:
        """Comparisons an essay at which designs are compared: 16, or as many as there are ordered pairs."""
        return float(min(16, 2 * (self.essays - 1)))


@dataclass(frozen=True, slots=True)
class Trial:
    """Sessions of one design, scored at some comparisons an essay, or where the stop rule ended them."""

    case: Case
    design: DesignName
    at: tuple[float, ...] | None

    def session(self, seed: int, replication: int) -> list[Measures]:
        """Return one scoring for each of `at`, or the last one."""
        scenario = Scenario(self.case.essays, self.case.spread, JUDGES[self.case.judge], seed)
        if self.at is None:
            return [measured_when_stopped(scenario, self.design, STOP, replication).measures]
        return measured_at(scenario, self.design, self.at, replication)


class Key(NamedTuple):
    """Where to find the scorings of a case; `at` is None where the stop rule decided."""

    case: Case
    design: DesignName
    at: float | None


Results: TypeAlias = "Mapping[Key, list[Measures]]"


def keyed(trial: Trial, sessions: Sequence[Sequence[Measures]]) -> Iterator[tuple[Key, list[Measures]]]:
    for place, at in enumerate(trial.at or (None,)):
        yield Key(trial.case, trial.design, at), [session[place] for session in sessions]


def cases() -> list[Case]:
    """Return the cases of the plain judge, then those of the language model with 30 essays."""
    plain = [Case(essays, spread, "plain") for essays, spread in product(SESSIONS, SPREADS)]
    return plain + [Case(30, spread, "language model") for spread in SPREADS]


def trials() -> Iterator[Trial]:
    """Yield what the tables need, no more: all designs where they are compared, else those that are used."""
    for case in cases():
        saves = case.essays in LARGE and case.spread in REAL
        for design in DesignName if saves or not case.spread else USED:
            yield Trial(case, design, COSTS if saves and design is DesignName.RANDOM else (case.cost,))
        if case.essays in LARGE and case.judge == "plain":
            yield Trial(case, DesignName.OURS, None)
