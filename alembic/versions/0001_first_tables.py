"""The first tables: batches, their states, essays and comparisons, and what moves messages in and out.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATES = (
    "INITIALIZING",
    "GENERATING_PAIRS",
    "WAITING_CALLBACKS",
    "SCORING",
    "COMPLETED",
    "FAILED",
    "CANCELLED",
)
BATCH_STATE = postgresql.ENUM(*STATES, name="batch_state_enum", create_type=False)

# Large values that compress well; a server built without lz4 keeps its default.
COMPRESSED = (
    ("cj_processed_essays", "assessment_input_text"),
    ("event_outbox", "payload"),
)


def upgrade() -> None:
    BATCH_STATE.create(op.get_bind(), checkfirst=False)
    _uploads()
    _states()
    _essays()
    _pairs()
    _inbox()
    _dead_letters()
    _outbox()
    _snapshots()
    _operator_actions()
    _gate()
    _compress()


def downgrade() -> None:
    for table in (
        "provider_gate",
        "operator_actions",
        "score_snapshots",
        "event_outbox",
        "dead_letters",
        "kafka_positions",
        "inbox",
        "cj_comparison_pairs",
        "cj_processed_essays",
        "cj_batch_states",
        "cj_batch_uploads",
    ):
        op.drop_table(table)
    BATCH_STATE.drop(op.get_bind(), checkfirst=False)


def _id(table: str) -> tuple[sa.Column[int], sa.PrimaryKeyConstraint]:
    column = sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False)
    return column, sa.PrimaryKeyConstraint("id", name=f"pk_{table}")


def _moment(name: str, *, null: bool = True) -> sa.Column[object]:
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), nullable=null)


def _now(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False)


def _count(name: str, default: str = "0") -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text(default), nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False)


def _texts(*names: str, null: bool = True) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=null) for name in names]


def _batch(table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], ["cj_batch_uploads.id"], name=f"fk_{table}_{column}", ondelete="CASCADE")


def _uploads() -> None:
    op.create_table(
        "cj_batch_uploads",
        *_id("cj_batch_uploads"),
        *_texts("bos_batch_id", "event_correlation_id", null=False),
        sa.Column("entity_type", sa.Text(), server_default="batch", nullable=False),
        *_texts("parent_id"),
        *_texts("language", "course_code", null=False),
        *_texts("user_id", "org_id", "assignment_id"),
        sa.Column("expected_essay_count", sa.BigInteger(), nullable=False),
        *_texts("student_prompt_storage_id", "student_prompt_text"),
        _moment("student_prompt_first_failed_at"),
        *_texts("student_prompt_error"),
        sa.Column("configuration", postgresql.JSONB(), nullable=False),
        _now("created_at"),
        _now("updated_at"),
        _moment("completed_at"),
        sa.Column("processing_metadata", postgresql.JSONB()),
        sa.UniqueConstraint("bos_batch_id", "event_correlation_id", name="uq_cj_batch_uploads_bos_batch_id"),
    )


def _states() -> None:
    op.create_table(
        "cj_batch_states",
        sa.Column("batch_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", BATCH_STATE, nullable=False),
        _now("state_since"),
        sa.Column("total_budget", sa.BigInteger(), nullable=False),
        _count("total_comparisons"),
        _count("submitted_comparisons"),
        _count("completed_comparisons"),
        _count("failed_comparisons"),
        _now("last_activity_at"),
        sa.Column("next_action", sa.String()),
        _moment("next_action_at"),
        _flag("partial_scoring_triggered"),
        _count("completion_threshold_pct", "95"),
        _count("current_iteration"),
        _count("result_version", "1"),
        _count("version", "1"),
        *_texts("stop_reason"),
        sa.Column("processing_metadata", postgresql.JSONB()),
        sa.PrimaryKeyConstraint("batch_id", name="pk_cj_batch_states"),
        _batch("cj_batch_states", "batch_id"),
        sa.CheckConstraint(
            "(next_action IS NULL) = (next_action_at IS NULL)", name=op.f("ck_cj_batch_states_action_has_time")
        ),
        sa.CheckConstraint(
            "(state IN ('COMPLETED', 'FAILED', 'CANCELLED')) = (next_action IS NULL)",
            name=op.f("ck_cj_batch_states_live_has_action"),
        ),
        # Answers change counters in place: free room in each page keeps these updates off the indexes.
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index("ix_cj_batch_states_state", "cj_batch_states", ["state"])
    op.create_index("ix_cj_batch_states_next_action_at", "cj_batch_states", ["next_action_at"])


def _essays() -> None:
    op.create_table(
        "cj_processed_essays",
        sa.Column("cj_batch_id", sa.BigInteger(), nullable=False),
        *_texts("els_essay_id", null=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        *_texts("text_storage_id", null=False),
        *_texts("assessment_input_text"),
        _count("fetch_attempts"),
        _moment("next_attempt_at"),
        _moment("first_failed_at"),
        *_texts("fetch_error"),
        sa.Column("current_bt_score", sa.Float()),
        sa.Column("current_bt_se", sa.Float()),
        _count("comparison_count"),
        _flag("is_anchor"),
        _now("created_at"),
        sa.PrimaryKeyConstraint("cj_batch_id", "els_essay_id", name="pk_cj_processed_essays"),
        _batch("cj_processed_essays", "cj_batch_id"),
    )


def _verdict() -> list[sa.Column[object]]:
    return [
        _moment("judged_at"),
        *_texts("winner"),
        sa.Column("confidence", sa.Float()),
        *_texts("justification", "error_code", "error_message", "error_service"),
        sa.Column("error_details", postgresql.JSONB()),
        *_texts("provider", "model"),
        sa.Column("response_time_ms", sa.BigInteger()),
        sa.Column("prompt_tokens", sa.BigInteger()),
        sa.Column("completion_tokens", sa.BigInteger()),
        sa.Column("total_tokens", sa.BigInteger()),
        sa.Column("cost", sa.Float()),
    ]


def _pairs() -> None:
    op.create_table(
        "cj_comparison_pairs",
        *_id("cj_comparison_pairs"),
        sa.Column("cj_batch_id", sa.BigInteger(), nullable=False),
        sa.Column("iteration", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        *_texts("essay_a_els_id", "essay_b_els_id", null=False),
        sa.Column("request_correlation_id", sa.Uuid(), nullable=False),
        _count("attempt"),
        _count("refusals"),
        _moment("lease_until"),
        sa.Column("claim_token", sa.Uuid()),
        *_texts("request_id", "prompt_sha256"),
        _moment("submitted_at"),
        _moment("next_attempt_at", null=False),
        # Postgres logs an updated row from its first changed byte on, so what an answer changes comes last.
        sa.Column("status", sa.String(), nullable=False),
        *_texts("last_error_request_id"),
        _moment("completed_at"),
        *_verdict(),
        _flag("late"),
        sa.UniqueConstraint("cj_batch_id", "iteration", "ordinal", name="uq_cj_comparison_pairs_cj_batch_id"),
        sa.UniqueConstraint("request_correlation_id", name="uq_cj_comparison_pairs_request_correlation_id"),
        sa.CheckConstraint("winner IN ('essay_a', 'essay_b')", name=op.f("ck_cj_comparison_pairs_winner")),
        sa.CheckConstraint("essay_a_els_id <> essay_b_els_id", name=op.f("ck_cj_comparison_pairs_two_essays")),
        sa.CheckConstraint(
            "status <> 'completed' OR (winner IS NOT NULL AND error_code IS NULL)",
            name=op.f("ck_cj_comparison_pairs_completed_has_winner"),
        ),
        sa.CheckConstraint(
            "status <> 'failed' OR (winner IS NULL AND error_code IS NOT NULL)",
            name=op.f("ck_cj_comparison_pairs_failed_has_code"),
        ),
        _batch("cj_comparison_pairs", "cj_batch_id"),
        # A comparison is written three times in its life: free room keeps these updates off the indexes.
        postgresql_with={"fillfactor": "50"},
    )


def _inbox() -> None:
    op.create_table(
        "inbox",
        *_id("inbox"),
        *_texts("kind", "topic", null=False),
        sa.Column("partitions", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("offsets", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        # Many messages in one value, compressed before it comes here.
        sa.Column("payloads", sa.LargeBinary(), nullable=False),
        _now("received_at"),
        _count("attempts"),
        _moment("next_attempt_at", null=False),
        _moment("done_at"),
        # Dead versions of undone rows slow every take: vacuum early and without pauses.
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"},
    )
    op.execute("ALTER TABLE inbox ALTER COLUMN payloads SET STORAGE EXTERNAL")
    op.create_index("ix_inbox_undone", "inbox", ["kind", "id"], postgresql_where=sa.text("done_at IS NULL"))
    op.create_index("ix_inbox_received_at", "inbox", ["received_at"], postgresql_using="brin")
    op.create_table(
        "kafka_positions",
        *_texts("topic", null=False),
        sa.Column("partition", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        _moment("caught_up_at"),
        sa.PrimaryKeyConstraint("topic", "partition", name="pk_kafka_positions"),
        # Each poll rewrites these few rows.
        postgresql_with={"fillfactor": "50"},
    )


def _dead_letters() -> None:
    op.create_table(
        "dead_letters",
        *_id("dead_letters"),
        *_texts("topic", null=False),
        sa.Column("partition", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        *_texts("reason", "detail", null=False),
        _moment("received_at", null=False),
        _moment("replayed_at"),
    )


def _outbox() -> None:
    op.create_table(
        "event_outbox",
        *_id("event_outbox"),
        sa.Column("batch_id", sa.BigInteger()),
        *_texts("subject", "kind", null=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        *_texts("event_type", "topic", "key", null=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        _now("created_at"),
        _moment("published_at"),
        sa.UniqueConstraint("subject", "kind", "version", name="uq_event_outbox_subject"),
        _batch("event_outbox", "batch_id"),
    )
    op.create_index("ix_event_outbox_batch_id", "event_outbox", ["batch_id"])
    op.create_index(
        "ix_event_outbox_unpublished",
        "event_outbox",
        ["id"],
        postgresql_where=sa.text("published_at IS NULL"),
    )


def _snapshots() -> None:
    op.create_table(
        "score_snapshots",
        *_id("score_snapshots"),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        *_texts("kind", null=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("iteration", sa.BigInteger(), nullable=False),
        sa.Column("comparisons", sa.BigInteger(), nullable=False),
        sa.Column("scores", postgresql.JSONB(), nullable=False),
        sa.Column("standard_errors", postgresql.JSONB(), nullable=False),
        sa.Column("rank_intervals", postgresql.JSONB(), nullable=False),
        sa.Column("reliability", sa.Float()),
        sa.Column("reliability_q25", sa.Float()),
        sa.Column("differences_are_real", sa.Boolean()),
        *_texts("certainty"),
        sa.Column("words", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("ssr", sa.Float()),
        sa.Column("side_effect", sa.Float()),
        sa.Column("side_effect_se", sa.Float()),
        sa.Column("components", sa.BigInteger(), nullable=False),
        _now("created_at"),
        sa.UniqueConstraint("batch_id", "kind", "version", "iteration", name="uq_score_snapshots_batch_id"),
        _batch("score_snapshots", "batch_id"),
    )


def _operator_actions() -> None:
    op.create_table(
        "operator_actions",
        *_id("operator_actions"),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        *_texts("action", "operator", "reason", null=False),
        sa.Column("details", postgresql.JSONB(), nullable=False),
        _moment("acted_at", null=False),
        _batch("operator_actions", "batch_id"),
    )
    op.create_index("ix_operator_actions_batch_id", "operator_actions", ["batch_id"])


def _gate() -> None:
    op.create_table(
        "provider_gate",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        _moment("not_before"),
        _count("refusals"),
        sa.PrimaryKeyConstraint("id", name="pk_provider_gate"),
        sa.CheckConstraint("id = 1", name=op.f("ck_provider_gate_one_row")),
    )
    op.execute("INSERT INTO provider_gate (id) VALUES (1)")


def _compress() -> None:
    if op.get_context().as_sql:
        # A script written without a server cannot ask what the server was built with.
        return
    known = op.get_bind().scalar(
        sa.text("SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'")
    )
    if known:
        for table, column in COMPRESSED:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET COMPRESSION lz4")
