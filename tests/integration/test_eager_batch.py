"""A whole batch in one process: the first example for whoever builds on this."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cjtasks.domain.states import BatchStateEnum

if TYPE_CHECKING:
    from cjtasks.testing import EagerPlatform

TEXTS = {f"essay-{n}": "A thought. " * n for n in range(1, 9)}


def test_a_batch_runs_from_request_to_result_events(eager_cj: EagerPlatform) -> None:
    batch_id = eager_cj.run(TEXTS)

    assert eager_cj.state(batch_id).state is BatchStateEnum.COMPLETED
    assert [event.kind for event in eager_cj.events(batch_id)] == ["completed", "result", "consumption"]
    ranking = eager_cj.events(batch_id)[1].data["essay_results"]
    assert {essay["essay_id"] for essay in ranking} == set(TEXTS)


def test_a_batch_completes_though_some_answers_are_errors(eager_cj: EagerPlatform) -> None:
    eager_cj.provider.change({"error_rate": 0.3})

    batch_id = eager_cj.run(TEXTS, max_comparisons=32)

    state = eager_cj.state(batch_id)
    assert (state.state, state.total_comparisons) == (BatchStateEnum.COMPLETED, 32)
    assert any(pair.attempt > 1 for pair in state.batch_upload.comparison_pairs), "an error is asked again"
