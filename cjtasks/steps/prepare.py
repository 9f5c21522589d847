"""The texts of a batch are fetched; what can never be had is named, what may come later is tried again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.errors import ContentMissing, ContentUnavailable
from cjtasks.store import batches
from cjtasks.store.models import CJBatchUpload, ProcessedEssay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from cjtasks.runtime import Runtime
    from cjtasks.store.models import CJBatchState

LEASE = timedelta(seconds=120)
PATIENCE = timedelta(minutes=5)
"""How long an unavailable text is tried again before its essay is given up."""

LONGEST_PAUSE = 30.0

TURN = timedelta(seconds=0.25)
"""How long batches are prepared before the child looks for other work: submissions wait for the same ones."""

THREADS = 8


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A text, or the code of why there is none; `final` when trying again cannot help."""

    text: str | None = None
    code: str | None = None
    final: bool = True


def prepare_due(runtime: Runtime, bell: Bell) -> list[Bell]:
    """Prepare a batch, and go on with others that wait for it until this child has had its turn."""
    until = runtime.clock() + TURN
    bells = prepare(runtime, bell)
    while runtime.clock() < until:
        with runtime.database.transaction() as session:
            batch_id = batches.oldest_due(session, Work.PREPARE, runtime.clock())
        if batch_id is None:
            break
        bells += prepare(runtime, Bell(Work.PREPARE, batch_id))
    return bells


def prepare(runtime: Runtime, bell: Bell) -> list[Bell]:
    now = runtime.clock()
    with runtime.database.transaction() as session:
        taken = batches.claim(session, bell, now, LEASE)
        if taken is None:
            return []
        prompt_id = _missing_prompt(session, taken.batch_id)
        essays = _missing_essays(session, taken.batch_id, now)
    wanted = [prompt_id, *essays.values()]
    with ThreadPoolExecutor(THREADS) as pool:
        prompt, *texts = pool.map(lambda storage_id: _fetch(runtime, storage_id), wanted)
    with runtime.database.transaction() as session:
        state = batches.reclaim(session, taken)
        if state is None:
            return []
        now = runtime.clock()
        _keep_prompt(state.batch_upload, prompt, now)
        _keep_essays(session, taken.batch_id, dict(zip(essays, texts, strict=True)), now)
        return _go_on(session, state, now)


def _missing_prompt(session: Session, batch_id: int) -> str | None:
    upload = session.get_one(CJBatchUpload, batch_id)
    wanted = upload.student_prompt_text is None and upload.student_prompt_error is None
    return upload.student_prompt_storage_id if wanted else None


def _missing_essays(session: Session, batch_id: int, now: datetime) -> dict[str, str]:
    rows = session.execute(
        select(ProcessedEssay.els_essay_id, ProcessedEssay.text_storage_id).where(
            ProcessedEssay.cj_batch_id == batch_id, ProcessedEssay.next_attempt_at <= now
        )
    )
    return dict(rows.all())


def _fetch(runtime: Runtime, storage_id: str | None) -> _Fetched:
    if storage_id is None:
        return _Fetched()
    try:
        return _Fetched(text=runtime.content.fetch(storage_id))
    except ContentMissing as error:
        return _Fetched(code=error.error_code)
    except ContentUnavailable as error:
        return _Fetched(code=error.error_code, final=False)


def _keep_prompt(upload: CJBatchUpload, fetched: _Fetched, now: datetime) -> None:
    if fetched.text is not None:
        upload.student_prompt_text = fetched.text
    if fetched.code is None:
        return
    upload.student_prompt_first_failed_at = upload.student_prompt_first_failed_at or now
    if fetched.final or now - upload.student_prompt_first_failed_at >= PATIENCE:
        # The batch goes on without the prompt: a ranking without it is better than none.
        upload.student_prompt_error = fetched.code


def _keep_essays(session: Session, batch_id: int, fetched: dict[str, _Fetched], now: datetime) -> None:
    rows = session.scalars(
        select(ProcessedEssay).where(ProcessedEssay.cj_batch_id == batch_id, ProcessedEssay.els_essay_id.in_(fetched))
    )
    for essay in rows:
        _keep_essay(essay, fetched[essay.els_essay_id], now)


def _keep_essay(essay: ProcessedEssay, fetched: _Fetched, now: datetime) -> None:
    essay.fetch_attempts += 1
    essay.next_attempt_at = None
    if fetched.text is not None:
        essay.assessment_input_text = fetched.text
        essay.fetch_error = None
        return
    essay.fetch_error = fetched.code
    essay.first_failed_at = essay.first_failed_at or now
    if not fetched.final and now - essay.first_failed_at < PATIENCE:
        essay.next_attempt_at = now + timedelta(seconds=min(2.0**essay.fetch_attempts, LONGEST_PAUSE))


def _go_on(session: Session, state: CJBatchState, now: datetime) -> list[Bell]:
    essays = session.scalars(select(ProcessedEssay).where(ProcessedEssay.cj_batch_id == state.batch_id)).all()
    waiting = _waiting(essays, state.batch_upload, now)
    if waiting is not None:
        batches.due(state, Work.PREPARE, waiting)
        return []
    usable = sum(essay.assessment_input_text is not None for essay in essays)
    target = BatchStateEnum.GENERATING_PAIRS if usable >= 2 else BatchStateEnum.SCORING
    return batches.move(state, target, now)


def _waiting(essays: Sequence[ProcessedEssay], upload: CJBatchUpload, now: datetime) -> datetime | None:
    """Return when something is fetched again, None when all is here or given up."""
    moments = [essay.next_attempt_at for essay in essays if essay.next_attempt_at is not None]
    if (
        upload.student_prompt_storage_id is not None
        and upload.student_prompt_text is None
        and upload.student_prompt_error is None
    ):
        moments.append(now + timedelta(seconds=5))
    return min(moments, default=None)
