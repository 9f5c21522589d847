"""What people see of a batch: its progress on one line, its ranking as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from sqlalchemy import func, select

from cjtasks.store.models import ComparisonPair, ScoreSnapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from cjtasks.store.models import CJBatchUpload, ProcessedEssay


@dataclass(frozen=True)
class Progressing:
    """Where a batch stands; counts are comparisons, cost is US dollars."""

    batch: int
    platform_id: str
    state: str
    essays: int
    planned: int
    submitted: int
    completed: int
    failed: int
    iteration: int
    budget: int
    cost: float
    next_action: str | None
    next_action_at: str | None
    stop_reason: str | None
    ssr: float | None
    opened_at: str
    ended_at: str | None
    seconds: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def row(self) -> tuple[str, ...]:
        return (
            str(self.batch),
            self.platform_id,
            self.state,
            str(self.completed),
            str(self.failed),
            str(self.planned),
            str(self.iteration),
            f"{self.cost:.4f}",
        )


def look(session: Session, upload: CJBatchUpload) -> Progressing:
    state, ended = upload.batch_state, upload.completed_at
    cost = session.scalar(select(func.sum(ComparisonPair.cost)).where(ComparisonPair.cj_batch_id == upload.id))
    ssr = session.scalar(
        select(ScoreSnapshot.ssr).where(ScoreSnapshot.batch_id == upload.id).order_by(ScoreSnapshot.id.desc()).limit(1)
    )
    return Progressing(
        batch=upload.id,
        platform_id=upload.bos_batch_id,
        state=state.state.value,
        essays=upload.expected_essay_count,
        planned=state.total_comparisons,
        submitted=state.submitted_comparisons,
        completed=state.completed_comparisons,
        failed=state.failed_comparisons,
        iteration=state.current_iteration,
        budget=state.total_budget,
        cost=cost or 0.0,
        next_action=state.next_action.value if state.next_action else None,
        next_action_at=state.next_action_at.isoformat() if state.next_action_at else None,
        stop_reason=state.stop_reason,
        ssr=ssr,
        opened_at=upload.created_at.isoformat(),
        ended_at=ended.isoformat() if ended else None,
        seconds=(ended - upload.created_at).total_seconds() if ended else None,
    )


def ranking_table(essays: Sequence[ProcessedEssay]) -> Table:
    """Show essays best first; the unscored come last with the reason."""
    table = Table("rank", "essay", "score", "± se", "comparisons", "")
    for column in (0, 2, 3, 4):
        table.columns[column].justify = "right"
    for rank, essay in enumerate(by_score(essays), start=1):
        scored = essay.current_bt_score is not None
        table.add_row(
            str(rank) if scored else "-",
            essay.els_essay_id,
            f"{essay.current_bt_score:+.2f}" if scored else "-",
            f"{essay.current_bt_se:.2f}" if essay.current_bt_se is not None else "-",
            str(essay.comparison_count),
            essay.fetch_error or "",
        )
    return table


def by_score(essays: Sequence[ProcessedEssay]) -> list[ProcessedEssay]:
    return sorted(essays, key=lambda essay: (essay.current_bt_score is None, -(essay.current_bt_score or 0.0)))
