"""From the judged comparisons of a batch to scores by essay, and to a stored snapshot of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import insert, select

from cjtasks.domain import scoring
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.store.models import ComparisonPair, ProcessedEssay, ScoreSnapshot

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from cjtasks.store.models import CJBatchState


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scores and conditional standard errors (logits) and comparison counts; essays without data are left out."""

    scores: dict[str, float]
    standard_errors: dict[str, float]
    counts: dict[str, int]
    comparisons: int
    ssr: float | None
    components: int


def usable_essays(session: Session, batch_id: int) -> list[str]:
    """Return the ids of the essays whose text is here, in the order of the request."""
    return list(
        session.scalars(
            select(ProcessedEssay.els_essay_id)
            .where(ProcessedEssay.cj_batch_id == batch_id, ProcessedEssay.assessment_input_text.is_not(None))
            .order_by(ProcessedEssay.position)
        )
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """The usable essays of a batch, in the order of the request, and who won against whom, as their indices."""

    essays: list[str]
    winners: list[int]
    losers: list[int]


def judged(session: Session, batch_id: int) -> Judged:
    """Read everything that was judged in time; answers that came too late never change a result."""
    essays = usable_essays(session, batch_id)
    index = {essay: number for number, essay in enumerate(essays)}
    rows = session.execute(
        select(ComparisonPair.essay_a_els_id, ComparisonPair.essay_b_els_id, ComparisonPair.winner).where(
            ComparisonPair.cj_batch_id == batch_id,
            ComparisonPair.status == ComparisonStatus.COMPLETED,
            ComparisonPair.late.is_(False),
        )
    ).all()
    return Judged(
        essays,
        winners=[index[a if winner == "essay_a" else b] for a, b, winner in rows],
        losers=[index[b if winner == "essay_a" else a] for a, b, winner in rows],
    )


def rank(batch: Judged) -> Ranking:
    """Fit what was read; slow for a large batch, so no lock may be held meanwhile."""
    winners, losers = np.array(batch.winners, np.int64), np.array(batch.losers, np.int64)
    fit = scoring.fit(winners, losers, len(batch.essays))
    return _ranking(batch.essays, fit, len(batch.winners))


def _ranking(essays: list[str], fit: scoring.BradleyTerryFit, comparisons: int) -> Ranking:
    seen = [number for number in range(len(essays)) if fit.comparisons[number] > 0]
    return Ranking(
        scores={essays[i]: float(fit.scores[i]) for i in seen},
        standard_errors={essays[i]: float(fit.standard_errors[i]) for i in seen},
        counts={essays[i]: int(fit.comparisons[i]) for i in seen},
        comparisons=comparisons,
        ssr=float(fit.ssr) if math.isfinite(fit.ssr) else None,
        components=fit.component_count,
    )


def keep(session: Session, state: CJBatchState, kind: str, ranking: Ranking) -> None:
    """Store a snapshot; each kind once for an iteration of a version of the result."""
    session.execute(
        insert(ScoreSnapshot).values(
            batch_id=state.batch_id,
            kind=kind,
            version=state.result_version,
            iteration=state.current_iteration,
            comparisons=ranking.comparisons,
            scores=ranking.scores,
            standard_errors=ranking.standard_errors,
            ssr=ranking.ssr,
            components=ranking.components,
        )
    )
