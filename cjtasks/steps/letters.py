"""What goes to the judge: each claimed comparison with its prompt and the settings of its batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import Text, cast, select, text

from cjtasks.contracts.provider import ComparisonRequest, JudgeSettings
from cjtasks.domain.configuration import BatchConfiguration
from cjtasks.domain.prompts import SYSTEM_PROMPT, EssayText, Prompt, comparison_prompt
from cjtasks.store.models import CJBatchUpload

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from cjtasks.store.claims import Taken


@dataclass(frozen=True, slots=True)
class _Assignment:
    """What all comparisons of a batch share."""

    bos_batch_id: str
    student_prompt: str | None
    rubric: str | None
    judge: JudgeSettings


@dataclass(frozen=True, slots=True)
class Letter:
    """A claimed comparison with what the judge is to read."""

    taken: Taken
    prompt: Prompt
    judge: JudgeSettings
    bos_batch_id: str

    def request(self, callback_topic: str) -> ComparisonRequest:
        return ComparisonRequest(
            user_prompt=self.prompt.text,
            prompt_blocks=self.prompt.blocks,
            callback_topic=callback_topic,
            correlation_id=self.taken.correlation_id,
            judge=self.judge,
            metadata=self._metadata(),
        )

    def _metadata(self) -> dict[str, str]:
        one = self.taken
        hints = {
            "reasoning_effort": self.judge.reasoning_effort,
            "output_verbosity": self.judge.output_verbosity,
        }
        return {
            "essay_a_id": one.essay_a,
            "essay_b_id": one.essay_b,
            "bos_batch_id": self.bos_batch_id,
            "cj_batch_id": str(one.batch_id),
            "cj_source": "els",
            "cj_request_type": "cj_comparison" if one.iteration == 1 and one.attempt == 0 else "cj_retry",
            **{name: value for name, value in hints.items() if value is not None},
        }


def write(session: Session, taken: Sequence[Taken]) -> list[Letter]:
    """Read the texts of what was claimed, in two statements for all batches, and write the prompts."""
    if not taken:
        return []
    assignments = _assignments(session, {one.batch_id for one in taken})
    texts = _texts(session, taken)
    return [_letter(one, assignments[one.batch_id], texts) for one in taken]


def _assignments(session: Session, batch_ids: set[int]) -> dict[int, _Assignment]:
    rows = session.execute(
        select(
            CJBatchUpload.id,
            CJBatchUpload.bos_batch_id,
            CJBatchUpload.student_prompt_text,
            cast(CJBatchUpload.configuration, Text),
        ).where(CJBatchUpload.id.in_(batch_ids))
    )
    return {id_: _Assignment(bos_batch_id, prompt, *_wanted(stored)) for id_, bos_batch_id, prompt, stored in rows}


@lru_cache(maxsize=256)
def _wanted(stored: str) -> tuple[str | None, JudgeSettings]:
    """Read the rubric and the judge from a stored configuration; most batches have the same one."""
    configuration = BatchConfiguration.model_validate_json(stored)
    judge = JudgeSettings(
        provider=configuration.provider,
        model=configuration.model,
        temperature=configuration.temperature,
        system_prompt=configuration.system_prompt or SYSTEM_PROMPT,
        max_tokens=configuration.max_tokens,
        reasoning_effort=configuration.reasoning_effort,
        output_verbosity=configuration.output_verbosity,
    )
    return configuration.rubric, judge


# Two arrays are much cheaper to send than a list of pairs, whose every member is a parameter.
_TEXTS = text(
    """
    SELECT essay.cj_batch_id, essay.els_essay_id, essay.assessment_input_text
    FROM unnest(CAST(:batch_ids AS bigint[]), CAST(:essay_ids AS text[])) AS wanted(batch_id, essay_id)
    JOIN cj_processed_essays AS essay
        ON essay.cj_batch_id = wanted.batch_id AND essay.els_essay_id = wanted.essay_id
    """
)


def _texts(session: Session, taken: Iterable[Taken]) -> dict[tuple[int, str], str]:
    wanted = {(one.batch_id, essay) for one in taken for essay in (one.essay_a, one.essay_b)}
    batch_ids, essay_ids = zip(*wanted, strict=True)
    rows = session.execute(_TEXTS, {"batch_ids": list(batch_ids), "essay_ids": list(essay_ids)})
    return {(batch_id, essay_id): essay or "" for batch_id, essay_id, essay in rows}


def _letter(one: Taken, assignment: _Assignment, texts: Mapping[tuple[int, str], str]) -> Letter:
    a, b = (EssayText(essay, texts[one.batch_id, essay]) for essay in (one.essay_a, one.essay_b))
    prompt = comparison_prompt(a, b, assignment.student_prompt, assignment.rubric)
    return Letter(one, prompt, assignment.judge, assignment.bos_batch_id)
