"""A request opens a batch; the same request again opens nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import structlog
from sqlalchemy.dialects.postgresql import insert as upsert

from cjtasks.contracts import results
from cjtasks.contracts.request import (
    Addressee,
    LLMConfigOverrides,
    ReceivedRequest,
    addressee,
    batch_config,
    max_comparisons,
    read_request,
    refuse_unusable,
)
from cjtasks.contracts.results import INITIALIZATION_FAILED, EventContext, error_info_of
from cjtasks.domain.configuration import BatchConfiguration
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.errors import RequestRefused, UnreadableMessage
from cjtasks.steps.events import topic_of
from cjtasks.store import dead_letters, outbox
from cjtasks.store.models import CJBatchState, CJBatchUpload, ProcessedEssay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Table
    from sqlalchemy.orm import Session

    from cjtasks.errors import ErrorDetail
    from cjtasks.runtime import Runtime
    from cjtasks.settings import Settings
    from cjtasks.store.inbox import Message

log = structlog.get_logger()

# Made once and of the tables themselves: a thousand batches may come in the same second, and answers wait meanwhile.
_uploads, _states, _essays = (cast("Table", model.__table__) for model in (CJBatchUpload, CJBatchState, ProcessedEssay))
_UPLOAD = (
    upsert(_uploads).on_conflict_do_nothing(constraint="uq_cj_batch_uploads_bos_batch_id").returning(_uploads.c.id)
)
_STATE, _ESSAYS = _states.insert(), _essays.insert()


def open_batches(runtime: Runtime, session: Session, messages: Sequence[Message]) -> list[Bell]:
    return [bell for message in messages for bell in _open_one(runtime, session, message)]


def _open_one(runtime: Runtime, session: Session, message: Message) -> list[Bell]:
    now = runtime.clock()
    try:
        request = read_request(message.payload)
        if not request.data.entity_id:
            raise UnreadableMessage("data", "entity_id", "without it nobody can be answered")  # noqa: TRY301 - One place sets messages aside.
        refuse_unusable(request)
    except UnreadableMessage as error:
        dead_letters.set_aside(session, message, "UNREADABLE_REQUEST", error.error_detail.message)
        sender = addressee(message.payload)
        if sender is not None:
            _refuse(session, runtime.settings, _context(sender, now), error.error_detail)
        return []
    except RequestRefused as error:
        _refuse(session, runtime.settings, _context(_sender(request), now), error.error_detail)
        return []
    return _open(runtime, session, request, now)


def _sender(request: ReceivedRequest) -> Addressee:
    data = request.data
    return Addressee(data.entity_id or "", data.entity_type or "batch", data.parent_id, request.correlation_id)


def _context(sender: Addressee, now: datetime) -> EventContext:
    return EventContext(
        entity_id=sender.entity_id,
        entity_type=sender.entity_type,
        parent_id=sender.parent_id,
        correlation_id=sender.correlation_id,
        job_id=INITIALIZATION_FAILED,
        now=now,
        started_at=None,
    )


def _refuse(session: Session, settings: Settings, context: EventContext, detail: ErrorDetail) -> None:
    """Tell the sender which field is wrong, so that it does not wait for ever."""
    info = {**error_info_of(detail), "correlation_id": str(context.correlation_id)}
    event = results.failed(context, info)
    # A mended request under the same ids opens a batch, whose own failure is version 1 and up.
    outbox.put(session, event, context, outbox.Addressed(topic_of(event.kind, settings), None, version=0))
    log.warning("request refused", batch=context.entity_id, code=detail.error_code)


def _open(runtime: Runtime, session: Session, request: ReceivedRequest, now: datetime) -> list[Bell]:
    batch_id = _insert_upload(session, runtime.settings, request, now)
    if batch_id is None:
        log.info("request seen before", batch=request.data.entity_id)
        return []
    session.execute(_STATE, _state(runtime.settings, request, batch_id, now))
    session.execute(
        _ESSAYS,
        [
            {
                "cj_batch_id": batch_id,
                "els_essay_id": essay.essay_id,
                "position": position,
                "text_storage_id": essay.text_storage_id,
                "next_attempt_at": now,
            }
            for position, essay in enumerate(request.data.essays_for_cj)
        ],
    )
    log.info("batch opened", batch=request.data.entity_id, cj_batch=batch_id)
    return [Bell(Work.PREPARE, batch_id)]


def _insert_upload(session: Session, settings: Settings, request: ReceivedRequest, now: datetime) -> int | None:
    data = request.data
    row = {
        "bos_batch_id": data.entity_id,
        "event_correlation_id": str(request.correlation_id),
        "entity_type": data.entity_type or "batch",
        "parent_id": data.parent_id,
        "language": data.language,
        "course_code": data.course_code,
        "user_id": data.user_id,
        "org_id": data.org_id,
        "assignment_id": data.assignment_id,
        "expected_essay_count": len(data.essays_for_cj),
        "student_prompt_storage_id": data.student_prompt_id,
        "student_prompt_text": data.inline_prompt,
        "configuration": _configuration(data.llm_config_overrides, settings).model_dump(),
        "created_at": now,
        "updated_at": now,
    }
    batch_id: int | None = session.scalar(_UPLOAD, row)
    return batch_id


def _configuration(overrides: LLMConfigOverrides | None, settings: Settings) -> BatchConfiguration:
    """Fill in the defaults now, so that a later change of a setting does not change a running batch."""
    wanted = overrides or LLMConfigOverrides()
    temperature = wanted.temperature_override
    return BatchConfiguration(
        provider=wanted.provider or settings.DEFAULT_LLM_PROVIDER,
        model=wanted.model_override or settings.DEFAULT_LLM_MODEL,
        # Zero is a temperature, not the absence of one.
        temperature=settings.DEFAULT_LLM_TEMPERATURE if temperature is None else temperature,
        max_tokens=wanted.max_tokens_override,
        system_prompt=wanted.system_prompt_override,
        rubric=wanted.judge_rubric_override,
        reasoning_effort=wanted.reasoning_effort,
        output_verbosity=wanted.output_verbosity,
        seed=settings.PAIR_GENERATION_SEED,
    )


def _state(settings: Settings, request: ReceivedRequest, batch_id: int, now: datetime) -> dict[str, object]:
    asked = max_comparisons(request.envelope.metadata)
    threshold = batch_config(request.envelope.metadata).partial_completion_threshold
    return {
        "batch_id": batch_id,
        "state": BatchStateEnum.INITIALIZING,
        "total_budget": min(settings.MAX_PAIRWISE_COMPARISONS, asked or settings.MAX_PAIRWISE_COMPARISONS),
        "completion_threshold_pct": 95 if threshold is None else round(100 * threshold),
        "state_since": now,
        "last_activity_at": now,
        "next_action": Work.PREPARE,
        "next_action_at": now,
    }
