"""The end of a good batch: scores, ranks, the final snapshot and the three events, in one transaction."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import func, select

from cjtasks.contracts import results
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.configuration import BatchConfiguration
from cjtasks.domain.decisions import StopReason
from cjtasks.domain.states import BatchStateEnum, Bell
from cjtasks.steps import events, ranking
from cjtasks.steps.progress import limits
from cjtasks.steps.turn import Turn
from cjtasks.store import batches, comparisons
from cjtasks.store.models import ComparisonPair, ProcessedEssay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cjtasks.runtime import Runtime
    from cjtasks.steps.ranking import Ranking
    from cjtasks.store.models import CJBatchState, CJBatchUpload

LEASE = timedelta(seconds=300)

log = structlog.get_logger()


def score(runtime: Runtime, bell: Bell) -> list[Bell]:
    with runtime.database.transaction() as session:
        taken = batches.claim(session, bell, runtime.clock(), LEASE)
        if taken is None:
            return []
        judged = ranking.judged(session, taken.batch_id)
    ranked = ranking.rank(judged, runtime.settings.RELIABILITY_TARGET)
    with runtime.database.transaction() as session:
        state = batches.reclaim(session, taken)
        if state is None:
            return []
        return _complete(runtime, session, state, ranked)


def score_partially(runtime: Runtime, bell: Bell) -> list[Bell]:
    """Publish a first ranking while the last answers are out; one that the batch has overtaken is not made."""
    with runtime.database.transaction() as session:
        taken = batches.claim(session, bell, runtime.clock(), LEASE)
        if taken is None:
            return []
        judged = ranking.judged(session, taken.batch_id)
    ranked = ranking.rank(judged, runtime.settings.RELIABILITY_TARGET)
    with runtime.database.transaction() as session:
        state = batches.reclaim(session, taken)
        if state is None:
            return []
        turn = Turn(session, runtime.settings, runtime.clock())
        ranking.keep(session, state, "partial", ranked)
        context = events.context_of(state.batch_upload, turn.now)
        partial = results.partial_result(context, _progress(state), _outcomes(state.batch_upload, ranked))
        events.publish(turn, partial, state)
        upcoming = comparisons.what_next(session, [state.batch_id], turn.now, limits(runtime.settings))
        return batches.due(state, *upcoming[state.batch_id])


def _progress(state: CJBatchState) -> results.PartialProgress:
    return results.PartialProgress(
        planned=state.total_comparisons,
        completed=state.completed_comparisons,
        failed=state.failed_comparisons,
        version=state.result_version,
    )


def _complete(runtime: Runtime, session: Session, state: CJBatchState, ranked: Ranking) -> list[Bell]:
    now = runtime.clock()
    turn = Turn(session, runtime.settings, now)
    upload = state.batch_upload
    _write_scores(upload.essays, ranked)
    ranking.keep(session, state, "final", ranked)
    context = events.context_of(upload, now)
    outgoing = [
        results.completed(context, _summary(upload, ranked, now)),
        results.assessment_result(context, _result(session, upload, ranked, now)),
    ]
    if upload.user_id is not None:
        usage = results.Usage(upload.user_id, upload.org_id, ranked.comparisons)
        outgoing.append(results.consumption(context, usage))
    for event in outgoing:
        events.publish(turn, event, state)
    state.stop_reason = state.stop_reason or StopReason.TOO_FEW_ESSAYS
    upload.completed_at = now
    log.info("batch completed", cj_batch=state.batch_id, comparisons=ranked.comparisons, reason=state.stop_reason)
    return batches.move(state, BatchStateEnum.COMPLETED, now)


def _write_scores(essays: Sequence[ProcessedEssay], ranked: Ranking) -> None:
    for essay in essays:
        essay.current_bt_score = ranked.scores.get(essay.els_essay_id)
        essay.current_bt_se = ranked.standard_errors.get(essay.els_essay_id)
        essay.comparison_count = ranked.counts.get(essay.els_essay_id, 0)


def _usable(upload: CJBatchUpload) -> list[ProcessedEssay]:
    return [essay for essay in upload.essays if essay.assessment_input_text is not None]


def _successful(upload: CJBatchUpload, ranked: Ranking) -> list[str]:
    """Return the essays with a result: those with a score, and a single usable essay, which needs none."""
    usable = [essay.els_essay_id for essay in _usable(upload)]
    return usable if len(usable) == 1 else [essay_id for essay_id in usable if essay_id in ranked.scores]


def _summary(upload: CJBatchUpload, ranked: Ranking, now: datetime) -> results.ProcessingSummary:
    successful = _successful(upload, ranked)
    return results.ProcessingSummary(
        total_essays=len(upload.essays),
        successful_essay_ids=tuple(successful),
        failed_essay_ids=tuple(e.els_essay_id for e in upload.essays if e.els_essay_id not in successful),
        processing_time_seconds=(now - upload.created_at).total_seconds(),
        single_essay_batch=len(_usable(upload)) == 1,
        failed_essay_reasons={e.els_essay_id: e.fetch_error for e in upload.essays if e.fetch_error is not None},
    )


def _result(session: Session, upload: CJBatchUpload, ranked: Ranking, now: datetime) -> results.ResultSummary:
    configuration = BatchConfiguration.model_validate(upload.configuration)
    provider, model = _most_used(session, upload.id) or (configuration.provider, configuration.model)
    return results.ResultSummary(
        model_used=model,
        model_provider=provider,
        assignment_id=upload.assignment_id,
        course_code=upload.course_code,
        comparison_count=ranked.comparisons,
        processing_duration_seconds=(now - upload.created_at).total_seconds(),
        llm_temperature=configuration.temperature,
        essays=_outcomes(upload, ranked),
    )


def _outcomes(upload: CJBatchUpload, ranked: Ranking) -> tuple[results.EssayOutcome, ...]:
    """Rank by score, unscored essays last; equal scores keep the order of the request."""
    usable = [essay.els_essay_id for essay in _usable(upload)]
    by_score = sorted(usable, key=lambda essay_id: -ranked.scores.get(essay_id, float("-inf")))
    return tuple(
        results.EssayOutcome(essay_id, ranked.scores.get(essay_id), rank)
        for rank, essay_id in enumerate(by_score, start=1)
    )


def _most_used(session: Session, batch_id: int) -> tuple[str, str] | None:
    """Return the provider and model that judged most, because the one asked for need not be the one used."""
    rows = session.execute(
        select(ComparisonPair.provider, ComparisonPair.model)
        .where(
            ComparisonPair.cj_batch_id == batch_id,
            ComparisonPair.status == ComparisonStatus.COMPLETED,
            ComparisonPair.late.is_(False),
        )
        .group_by(ComparisonPair.provider, ComparisonPair.model)
        .order_by(func.count().desc(), ComparisonPair.provider, ComparisonPair.model)
        .limit(1)
    )
    used = rows.first()
    return (used.provider or "", used.model or "") if used else None
