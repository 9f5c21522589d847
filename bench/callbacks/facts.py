"""What Postgres itself says about a run: when each answer was committed, what it cost, and whether all is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from bench.callbacks.wire import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Window:
    """The measured time, in seconds since 1970: the answers produced in it, and what happened during it."""

    start: float
    end: float


@dataclass(frozen=True)
class Latency:
    """Milliseconds from just before the produce call to the commit of the comparison's row."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True)
class Written:
    """What the server has committed and logged so far."""

    commits: int
    wal_bytes: int
    whole_pages: int

    def since(self, before: Written) -> Written:
        return Written(
            self.commits - before.commits, self.wal_bytes - before.wal_bytes, self.whole_pages - before.whole_pages
        )


# `judged_at` holds the moment of the produce call, because the load writes it into the message; the server
# keeps for each transaction when it was committed.
_VIEW = text(
    """
    CREATE OR REPLACE VIEW answered AS
    SELECT extract(epoch FROM judged_at) AS produced, extract(epoch FROM pg_xact_commit_timestamp(xmin)) AS committed
    FROM cj_comparison_pairs WHERE judged_at IS NOT NULL
    """
)
_LATENCY = text(
    """
    SELECT percentile_cont(ARRAY[0.5, 0.99, 1.0]) WITHIN GROUP (ORDER BY 1000 * (committed - produced)::float8)
    FROM answered WHERE produced >= :start AND produced < :end
    """
)
_RATE = text(
    """
    SELECT count(*) FILTER (WHERE committed >= :start AND committed < :end),
           count(*) FILTER (WHERE committed < :end)
    FROM answered
    """
)
_WRITTEN = text(
    """
    SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),
           pg_current_wal_lsn() - '0/0'::pg_lsn, (SELECT wal_fpi FROM pg_stat_wal)
    """
)
_SENT = text(
    """
    SELECT count(*) FROM cj_comparison_pairs
    WHERE judged_at IS NULL AND submitted_at >= to_timestamp(:start) AND submitted_at < to_timestamp(:end)
    """
)
_ANSWERED = text("SELECT count(*) FROM answered")
_MISCOUNTED = text(
    """
    SELECT count(*) FROM cj_batch_states AS state JOIN (
        SELECT cj_batch_id, count(*) AS total, count(*) FILTER (WHERE status = 'completed') AS completed,
               count(*) FILTER (WHERE status = 'failed') AS failed
        FROM cj_comparison_pairs GROUP BY cj_batch_id
    ) AS rows ON rows.cj_batch_id = state.batch_id
    WHERE (state.total_comparisons, state.completed_comparisons, state.failed_comparisons)
        IS DISTINCT FROM (rows.total, rows.completed, rows.failed)
    """
)
_REFUSED = text("SELECT count(*) FROM dead_letters WHERE payload <> :unreadable")
_INBOX = text(
    """
    SELECT count(*) FILTER (WHERE done_at IS NULL), coalesce(sum(cardinality(offsets)), 0),
           (SELECT count(DISTINCT (topic, place, number))
            FROM inbox, unnest(partitions, offsets) AS message(place, number)),
           coalesce(avg(cardinality(offsets)), 0)
    FROM inbox
    """
)


def prepare(session: Session) -> None:
    """Make the view that the questions are asked of."""
    session.execute(_VIEW)


def latency(session: Session, window: Window) -> Latency:
    return Latency(*session.scalar(_LATENCY, vars(window)) or (0.0, 0.0, 0.0))


def committed(session: Session, window: Window) -> tuple[int, int]:
    """Return how many answers were committed in the window, and how many until its end."""
    within, until_its_end = session.execute(_RATE, vars(window)).one()
    return within, until_its_end


def sent(session: Session, window: Window) -> int:
    """Return how many comparisons the provider took in the window, none of which was answered."""
    return int(session.scalar(_SENT, vars(window)) or 0)


def written(session: Session) -> Written:
    commits, wal_bytes, whole_pages = session.execute(_WRITTEN).one()
    return Written(int(commits), int(wal_bytes), int(whole_pages))


def answered(session: Session) -> int:
    return int(session.scalar(_ANSWERED) or 0)


def dead_letters(session: Session) -> int:
    return int(session.scalar(text("SELECT count(*) FROM dead_letters")) or 0)


def messages_a_row(session: Session) -> float:
    """Return how many messages an inbox row holds on average."""
    return float(session.execute(_INBOX).one()[3])


def problems(session: Session, sent: int) -> Iterator[str]:
    """Tell what is lost, double or miscounted after all has been worked."""
    recorded, miscounted = answered(session), session.scalar(_MISCOUNTED)
    if recorded != sent:
        yield f"{sent} answers were sent and {recorded} recorded"
    if miscounted:
        yield f"{miscounted} batches have counters that differ from their rows"
    refused = session.scalar(_REFUSED, {"unreadable": UNREADABLE})
    if refused:
        yield f"{refused} answers became dead letters"


def inbox_problems(session: Session, received: int) -> Iterator[str]:
    undone, messages, different, _ = session.execute(_INBOX).one()
    if undone:
        yield f"{undone} inbox rows are undone"
    if not received == messages == different:
        yield f"of {received} messages the inbox holds {messages}, {different} of them different"
