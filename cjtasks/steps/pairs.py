"""Between two iterations: fit what was judged, then stop or plan the next comparisons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import structlog
from sqlalchemy import insert, select
from uuid_utils.compat import uuid7

from cjtasks.domain import pairing
from cjtasks.domain.comparisons import OPEN, ComparisonStatus
from cjtasks.domain.configuration import BatchConfiguration
from cjtasks.domain.decisions import Iterations, StopReason, StopRule, why_stop
from cjtasks.domain.pairing import History, Outcome
from cjtasks.domain.scoring import largest_change
from cjtasks.domain.states import BatchStateEnum, Bell
from cjtasks.steps import ranking
from cjtasks.store import batches
from cjtasks.store.models import CJBatchUpload, ComparisonPair, ScoreSnapshot

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cjtasks.runtime import Runtime
    from cjtasks.settings import Settings
    from cjtasks.steps.ranking import Judged, Ranking
    from cjtasks.store.models import CJBatchState

LEASE = timedelta(seconds=120)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Read:
    """What the decision is made from, read in one short transaction."""

    judged: Judged
    asked: list[tuple[str, str, Outcome]]
    scores_before: dict[str, float]
    budget: int
    batch_key: str
    seed: int | None


def advance(runtime: Runtime, bell: Bell) -> list[Bell]:
    with runtime.database.transaction() as session:
        taken = batches.claim(session, bell, runtime.clock(), LEASE)
        if taken is None:
            return []
        read = _read(session, taken.batch_id, taken.iteration)
    ranked = ranking.rank(read.judged, runtime.settings.RELIABILITY_TARGET)
    reason = _why_stop(runtime.settings, read, ranked, taken.iteration)
    wave = [] if reason else _next_pairs(read, taken.iteration)
    with runtime.database.transaction() as session:
        state = batches.reclaim(session, taken)
        if state is None:
            return []
        now = runtime.clock()
        if taken.iteration:
            ranking.keep(session, state, "interim", ranked)
        if not wave:
            return _stop(state, reason or StopReason.NO_PAIR_LEFT, now)
        return _plan(session, state, wave, now)


def _read(session: Session, batch_id: int, iteration: int) -> _Read:
    upload = session.get_one(CJBatchUpload, batch_id)
    before = session.scalar(
        select(ScoreSnapshot.scores)
        .where(
            ScoreSnapshot.batch_id == batch_id,
            ScoreSnapshot.kind == "interim",
            ScoreSnapshot.iteration == iteration - 1,
        )
        .order_by(ScoreSnapshot.version.desc())
        .limit(1)
    )
    configuration = BatchConfiguration.model_validate(upload.configuration)
    return _Read(
        judged=ranking.judged(session, batch_id),
        asked=_asked(session, batch_id),
        scores_before=before or {},
        budget=upload.batch_state.total_budget,
        batch_key=f"{upload.bos_batch_id}:{upload.event_correlation_id}",
        seed=configuration.seed,
    )


def _asked(session: Session, batch_id: int) -> list[tuple[str, str, Outcome]]:
    pair = ComparisonPair
    rows = session.execute(
        select(pair.essay_a_els_id, pair.essay_b_els_id, pair.status, pair.late, pair.winner)
        .where(pair.cj_batch_id == batch_id)
        .order_by(pair.iteration, pair.ordinal)
    )
    return [(a, b, _outcome(status, winner, late=late)) for a, b, status, late, winner in rows]


def _outcome(status: ComparisonStatus, winner: str | None, *, late: bool) -> Outcome:
    if status in OPEN:
        return Outcome.OPEN
    if status is ComparisonStatus.FAILED or late:
        return Outcome.NO_VERDICT
    return Outcome.A_WON if winner == "essay_a" else Outcome.B_WON


def _why_stop(settings: Settings, read: _Read, ranked: Ranking, iteration: int) -> StopReason | None:
    change = largest_change(read.scores_before, ranked.scores) if iteration > 1 else math.inf
    iterations = Iterations(
        essays=len(read.judged.essays),
        done=iteration,
        planned=len(read.asked),
        budget=read.budget,
        pair_ceiling=pairing.ceiling(len(read.judged.essays)),
        score_change=change,
        reliability=ranked.reliability,
    )
    rule = StopRule(settings.MAX_ITERATIONS, settings.RELIABILITY_TARGET, settings.SCORE_STABILITY_THRESHOLD)
    return why_stop(iterations, rule)


def _next_pairs(read: _Read, iteration: int) -> list[tuple[str, str]]:
    """Choose what to ask next; slow for a large batch, so no lock may be held meanwhile."""
    essays, left = read.judged.essays, read.budget - len(read.asked)
    rng = np.random.default_rng(pairing.seed_for(read.batch_key, iteration + 1, read.seed))
    if iteration == 0:
        pairs = pairing.first_iteration(len(essays), left, rng)
    else:
        pairs = pairing.next_wave(_history(read), left, rng)
    return [(essays[a], essays[b]) for a, b in pairs]


def _history(read: _Read) -> History:
    index = {essay: number for number, essay in enumerate(read.judged.essays)}
    pairs = [(index[a], index[b]) for a, b, _ in read.asked]
    outcomes = [outcome for _, _, outcome in read.asked]
    return History(len(index), np.array(pairs, np.int64).reshape(-1, 2), np.array(outcomes, np.int64))


def _stop(state: CJBatchState, reason: StopReason, now: datetime) -> list[Bell]:
    state.stop_reason = reason
    log.info("batch has enough", cj_batch=state.batch_id, reason=reason, iteration=state.current_iteration)
    return batches.move(state, BatchStateEnum.SCORING, now)


def _plan(session: Session, state: CJBatchState, wave: list[tuple[str, str]], now: datetime) -> list[Bell]:
    state.current_iteration += 1
    state.total_comparisons += len(wave)
    session.execute(
        insert(ComparisonPair),
        [
            {
                "cj_batch_id": state.batch_id,
                "iteration": state.current_iteration,
                "ordinal": ordinal,
                "essay_a_els_id": a,
                "essay_b_els_id": b,
                # Ids that rise with time keep the unique index's writes in one place.
                "request_correlation_id": uuid7(),
                "status": ComparisonStatus.PLANNED,
                "next_attempt_at": now,
            }
            for ordinal, (a, b) in enumerate(wave)
        ],
    )
    log.info("iteration planned", cj_batch=state.batch_id, iteration=state.current_iteration, pairs=len(wave))
    return batches.move(state, BatchStateEnum.WAITING_CALLBACKS, now)
