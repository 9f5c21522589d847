"""The tables. `cj_batch_states` is the truth about a batch; everything else hangs on it or feeds it."""

from __future__ import annotations

from cjtasks.store.models.base import Base
from cjtasks.store.models.batches import (
    CJBatchState,
    CJBatchUpload,
    ComparisonPair,
    OperatorAction,
    ProcessedEssay,
    ScoreSnapshot,
)
from cjtasks.store.models.messages import DeadLetterRow, InboxRow, KafkaPosition, OutboxEvent, ProviderGate

__all__ = [
    "Base",
    "CJBatchState",
    "CJBatchUpload",
    "ComparisonPair",
    "DeadLetterRow",
    "InboxRow",
    "KafkaPosition",
    "OperatorAction",
    "OutboxEvent",
    "ProcessedEssay",
    "ProviderGate",
    "ScoreSnapshot",
]
