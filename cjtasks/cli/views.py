"""What people see of a batch: its progress on one line, its ranking as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text
from sqlalchemy import func, select

from cjtasks.store.models import ComparisonPair, ScoreSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Console
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
    reliability: float | None
    certainty: str | None
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
    kept = session.execute(
        select(ScoreSnapshot.reliability, ScoreSnapshot.certainty, ScoreSnapshot.ssr)
        .where(ScoreSnapshot.batch_id == upload.id)
        .order_by(ScoreSnapshot.id.desc())
        .limit(1)
    ).first()
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
        reliability=kept.reliability if kept else None,
        certainty=kept.certainty if kept else None,
        ssr=kept.ssr if kept else None,
        opened_at=upload.created_at.isoformat(),
        ended_at=ended.isoformat() if ended else None,
        seconds=(ended - upload.created_at).total_seconds() if ended else None,
    )


@dataclass(frozen=True)
class Result:
    """One essay's result; `rank_low` and `rank_high` are the ends of the 95 % interval of its rank."""

    id: str
    score: float | None
    se: float | None
    rank: int | None
    rank_low: int | None
    rank_high: int | None
    comparisons: int
    fetch_error: str | None

    def row(self) -> tuple[str, ...]:
        return (
            "-" if self.rank is None else str(self.rank),
            "-" if self.rank_low is None else f"{self.rank_low}\N{EN DASH}{self.rank_high}",
            self.id,
            "-" if self.score is None else f"{self.score:+.2f}",
            "-" if self.se is None else f"{self.se:.2f}",
            str(self.comparisons),
            self.fetch_error or "",
        )


def results(upload: CJBatchUpload, final: ScoreSnapshot | None) -> list[Result]:
    """Return the essays best first; the unscored come last with the reason."""
    intervals = final.rank_intervals if final else {}
    ranked = sorted(upload.essays, key=lambda essay: (essay.current_bt_score is None, -(essay.current_bt_score or 0.0)))
    return [_result(essay, rank, intervals) for rank, essay in enumerate(ranked, start=1)]


def _result(essay: ProcessedEssay, rank: int, intervals: Mapping[str, tuple[int, int]]) -> Result:
    low, high = intervals.get(essay.els_essay_id, (None, None))
    return Result(
        id=essay.els_essay_id,
        score=essay.current_bt_score,
        se=essay.current_bt_se,
        rank=rank if essay.current_bt_score is not None else None,
        rank_low=low,
        rank_high=high,
        comparisons=essay.comparison_count,
        fetch_error=essay.fetch_error,
    )


def final_snapshot(session: Session, batch_id: int) -> ScoreSnapshot | None:
    return session.scalars(
        select(ScoreSnapshot)
        .where(ScoreSnapshot.batch_id == batch_id, ScoreSnapshot.kind == "final")
        .order_by(ScoreSnapshot.id.desc())
        .limit(1)
    ).first()


def ranking_table(shown: Iterable[Result]) -> Table:
    table = Table("rank", "95 %", "essay", "score", "± se", "comparisons", "")
    for column in (0, 1, 3, 4, 5):
        table.columns[column].justify = "right"
    for result in shown:
        table.add_row(*map(Text, result.row()))  # An id is text and never markup.
    return table


def tell(console: Console, sentences: Iterable[str]) -> None:
    """Print sentences as they are: what stands in brackets is no markup."""
    for sentence in sentences:
        console.print(sentence, markup=False, highlight=False)
