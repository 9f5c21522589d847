"""From the judged comparisons of a batch to scores by essay, and to a stored snapshot of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import insert, select

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.findings import TARGET, Judgements, find
from cjtasks.domain.plain_words import in_words
from cjtasks.domain.votes import Answers
from cjtasks.store.models import ComparisonPair, ProcessedEssay, ScoreSnapshot

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from cjtasks.domain.findings import Findings
    from cjtasks.store.models import CJBatchState

SEED = 0  # Rank intervals are drawn: the same comparisons shall give the same ones.


@dataclass(frozen=True, slots=True)
class Ranking:
    """What is published and kept of a batch, by essay id; essays without data are left out."""

    scores: dict[str, float]  # Posterior means, logits.
    standard_errors: dict[str, float]  # Posterior standard deviations.
    rank_intervals: dict[str, tuple[int, int]]  # 95 %
    counts: dict[str, int]
    findings: Findings

    @property
    def comparisons(self) -> int:
        return self.findings.comparisons

    @property
    def reliability(self) -> float | None:
        """The lower quartile, which luck seldom lifts; None for few essays, and where no chain joins them all."""
        claims = self.findings.assessment.claims
        return claims.reliability_quantiles.q25 if claims is not None and self.findings.parts == 1 else None


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
    """The usable essays of a batch, in the order of the request, and what was judged of them, by their places there."""

    essays: list[str]
    judgements: Judgements


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
    answers = Answers(
        first=np.array([index[a] for a, _, _ in rows], np.int64),
        second=np.array([index[b] for _, b, _ in rows], np.int64),
        first_won=np.array([winner == "essay_a" for _, _, winner in rows], np.bool_),
        n=len(essays),
    )
    return Judged(essays, Judgements(answers, sides_known=True, repeats_count_once=True))


def rank(batch: Judged, target: float) -> Ranking:
    """Fit what was read, and measure its reliability against `target`, or the usual one where that is 0.

    Slow for a large batch, so no lock may be held meanwhile.
    """
    found = find(batch.judgements, np.random.default_rng(SEED), target=target or TARGET)
    essays = [batch.essays[index] for index in found.compared]
    posterior = found.assessment
    intervals = zip(posterior.ranks.low.tolist(), posterior.ranks.high.tolist(), strict=True)
    return Ranking(
        scores=dict(zip(essays, posterior.means.tolist(), strict=True)),
        standard_errors=dict(zip(essays, found.standard_errors.tolist(), strict=True)),
        rank_intervals=dict(zip(essays, intervals, strict=True)),
        counts=dict(zip(essays, found.conventional.comparisons.tolist(), strict=True)),
        findings=found,
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
            rank_intervals=ranking.rank_intervals,
            **_of_the_whole(ranking.findings),
        )
    )


def _of_the_whole(found: Findings) -> dict[str, Any]:
    """Return what a snapshot says of a batch as a whole; what is not known is None."""
    claims, side = found.assessment.claims, found.side
    return {
        "reliability": claims.reliability if claims else None,
        "reliability_q25": claims.reliability_quantiles.q25 if claims else None,
        "differences_are_real": claims.differences_are_real if claims else None,
        "certainty": found.conclusion.certainty.value if found.conclusion else None,
        "words": list(in_words(found)),
        "ssr": _finite(found.conventional.ssr),
        "side_effect": _finite(side.eta) if side else None,
        "side_effect_se": _finite(side.standard_error) if side else None,
        "components": found.parts,
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
