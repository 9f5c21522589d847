"""Comparisons are claimed from all batches fairly, sent without a lock held, and recorded together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import select

from cjtasks.contracts.provider import ComparisonRequest, JudgeSettings
from cjtasks.domain.configuration import BatchConfiguration
from cjtasks.domain.prompts import SYSTEM_PROMPT, EssayText, Prompt, comparison_prompt
from cjtasks.domain.states import Bell, Work
from cjtasks.errors import CircuitOpen, ProviderRefused, ProviderRejected
from cjtasks.steps import outcomes
from cjtasks.steps.outcomes import Outcome
from cjtasks.steps.progress import limits
from cjtasks.store import claims, gate
from cjtasks.store.models import CJBatchUpload, ProcessedEssay

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.orm import Session

    from cjtasks.runtime import Runtime
    from cjtasks.store.claims import Taken

AT_ONCE = 64
"""How many comparisons one claim takes; what one submitter has in the air is lost for a lease if it dies."""

THREADS = 8
LONGEST = timedelta(seconds=10)
"""No request starts later than this after its task did, so that a worker can stop in time."""


@dataclass(frozen=True, slots=True)
class _Letter:
    """A claimed comparison with what the judge is to read."""

    taken: Taken
    prompt: Prompt
    judge: JudgeSettings
    bos_batch_id: str


def submit(runtime: Runtime) -> list[Bell]:
    """Send what is due, from whichever batches; return only when nothing is left or the time is up."""
    until = runtime.clock() + LONGEST
    while runtime.clock() < until:
        token = uuid4()
        with runtime.database.transaction() as session:
            taken = _take(runtime, session, token)
            letters = _letters(session, taken)
        if not letters:
            return []
        results = _send_all(runtime, letters, until)
        with runtime.database.transaction() as session:
            bells = outcomes.record(runtime, session, token, results)
        if bells:
            # The batches that moved on should not wait for the rest of what this task sends.
            return [*bells, Bell(Work.SUBMIT)]
    return [Bell(Work.SUBMIT)]


def _take(runtime: Runtime, session: Session, token: UUID) -> list[Taken]:
    now = runtime.clock()
    most = runtime.provider.allowance(AT_ONCE)
    if not most or gate.closed_until(session, now):
        return []
    return claims.take(session, claims.Order(most, token, now), limits(runtime.settings))


def _letters(session: Session, taken: list[Taken]) -> list[_Letter]:
    batch_ids = {one.batch_id for one in taken}
    uploads = {
        upload.id: upload for upload in session.scalars(select(CJBatchUpload).where(CJBatchUpload.id.in_(batch_ids)))
    }
    texts = _texts(session, taken)
    return [_letter(one, uploads[one.batch_id], texts) for one in taken]


def _texts(session: Session, taken: list[Taken]) -> dict[tuple[int, str], str]:
    rows = session.execute(
        select(ProcessedEssay.cj_batch_id, ProcessedEssay.els_essay_id, ProcessedEssay.assessment_input_text).where(
            ProcessedEssay.cj_batch_id.in_({one.batch_id for one in taken}),
            ProcessedEssay.els_essay_id.in_({essay for one in taken for essay in (one.essay_a, one.essay_b)}),
        )
    )
    return {(batch_id, essay_id): text or "" for batch_id, essay_id, text in rows}


def _letter(one: Taken, upload: CJBatchUpload, texts: dict[tuple[int, str], str]) -> _Letter:
    configuration = BatchConfiguration.model_validate(upload.configuration)
    a, b = (EssayText(essay, texts[one.batch_id, essay]) for essay in (one.essay_a, one.essay_b))
    return _Letter(
        taken=one,
        prompt=comparison_prompt(a, b, upload.student_prompt_text, configuration.rubric),
        judge=JudgeSettings(
            provider=configuration.provider,
            model=configuration.model,
            temperature=configuration.temperature,
            system_prompt=configuration.system_prompt or SYSTEM_PROMPT,
            max_tokens=configuration.max_tokens,
            reasoning_effort=configuration.reasoning_effort,
            output_verbosity=configuration.output_verbosity,
        ),
        bos_batch_id=upload.bos_batch_id,
    )


def _send_all(runtime: Runtime, letters: list[_Letter], until: datetime) -> list[Outcome]:
    with ThreadPoolExecutor(min(THREADS, len(letters))) as pool:
        return list(pool.map(lambda letter: _send(runtime, letter, until), letters))


def _send(runtime: Runtime, letter: _Letter, until: datetime) -> Outcome:
    one, digest = letter.taken, letter.prompt.sha256
    if runtime.clock() >= until:
        return Outcome(one.id, one.batch_id, digest)
    try:
        submission = runtime.provider.generate_comparison(_request(runtime, letter))
    except CircuitOpen:
        return Outcome(one.id, one.batch_id, digest)
    except (ProviderRefused, ProviderRejected) as error:
        return Outcome(one.id, one.batch_id, digest, error=error)
    return Outcome(one.id, one.batch_id, digest, submission=submission)


def _request(runtime: Runtime, letter: _Letter) -> ComparisonRequest:
    one = letter.taken
    metadata = {
        "essay_a_id": one.essay_a,
        "essay_b_id": one.essay_b,
        "bos_batch_id": letter.bos_batch_id,
        "cj_batch_id": str(one.batch_id),
        "cj_source": "els",
        "cj_request_type": "cj_comparison" if one.iteration == 1 and one.attempt == 0 else "cj_retry",
        **_hints(letter.judge),
    }
    return ComparisonRequest(
        user_prompt=letter.prompt.text,
        prompt_blocks=letter.prompt.blocks,
        callback_topic=runtime.settings.LLM_PROVIDER_CALLBACK_TOPIC,
        correlation_id=one.correlation_id,
        judge=letter.judge,
        metadata=metadata,
    )


def _hints(judge: JudgeSettings) -> dict[str, str]:
    hints = {"reasoning_effort": judge.reasoning_effort, "output_verbosity": judge.output_verbosity}
    return {name: value for name, value in hints.items() if value is not None}
