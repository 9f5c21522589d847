"""What the outgoing events count and name, and that they have the platform's own shape."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cjtasks import bells
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum
from cjtasks.steps import monitor
from cjtasks.store.inbox import Kind
from cjtasks.testing import eager_platform
from tests.integration.clients.told_service import Answer, serving
from tests.nasty import FIXTURES, own, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cjtasks.testing import EagerPlatform

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?")
SAME = frozenset({
    "event_type", "event_name", "source_service", "schema_version", "entity_type", "status", "processing_stage",
    "event", "reason", "assessment_method", "letter_grade", "confidence_label", "resource_type", "service_name",
    "service", "calibration_method", "is_anchor", "single_essay_batch", "success_rate_threshold",
})  # fmt: skip
"""Fields whose value is a part of the contract."""


def texts(essays: int) -> dict[str, str]:
    return {f"essay-{n}": "A thought. " * n for n in range(1, essays + 1)}


def told(platform: EagerPlatform, batch_id: str, kind: str) -> dict[str, Any]:
    (event,) = (event for event in platform.events(batch_id) if event.kind == kind)
    return event.data


def test_what_is_counted_and_charged_is_what_was_judged(database_url: str) -> None:
    """Neither errors, nor duplicates, nor an estimate from the number of essays.

    Which answers fail is chance, so many of them do, and the batch is allowed to do badly.
    """
    with eager_platform(database_url, MIN_SUCCESS_RATE_THRESHOLD=0.05) as platform:
        platform.provider.change({"error_rate": 0.4, "error_codes": ["QUOTA_EXCEEDED"], "duplicate_rate": 0.5})
        batch_id = platform.run(texts(8), max_comparisons=40)

        row = platform.state(batch_id)
        judged = Counter(pair.status for pair in row.batch_upload.comparison_pairs)
        assert judged[ComparisonStatus.FAILED] > 0
        completed = judged[ComparisonStatus.COMPLETED]
        assert row.completed_comparisons == completed
        assert told(platform, batch_id, "result")["assessment_metadata"]["comparison_count"] == completed
        assert told(platform, batch_id, "consumption")["quantity"] == completed
        assert sum(essay.comparison_count for essay in row.batch_upload.essays) == 2 * completed


def test_the_model_named_is_the_one_that_judged_most(eager_cj: EagerPlatform) -> None:
    eager_cj.provider.change({"model": "rare", "provider": "google"})
    batch_id = eager_cj.request(texts(8), overrides={"model_override": "wanted", "provider_override": "openai"})
    with_cap = eager_cj.runtime.settings.MAX_CONCURRENT_COMPARISONS
    assert with_cap >= 64
    eager_cj._turn()
    eager_cj.provider.change({"model": "common", "provider": "anthropic"})
    eager_cj.pump()

    used = Counter((p.provider, p.model) for p in eager_cj.state(batch_id).batch_upload.comparison_pairs)
    result = told(eager_cj, batch_id, "result")
    assert len(used) == 2
    assert (result["model_provider"], result["model_used"]) == used.most_common(1)[0][0]


def test_without_a_comparison_the_model_named_is_the_one_that_was_wanted(eager_cj: EagerPlatform) -> None:
    wanted = {"model_override": "wanted", "provider_override": " Anthropic "}
    result = told(eager_cj, eager_cj.run(texts(1), overrides=wanted), "result")
    assert (result["model_provider"], result["model_used"]) == ("anthropic", "wanted")


def test_a_temperature_of_zero_is_asked_for_and_told(eager_cj: EagerPlatform) -> None:
    batch_id = eager_cj.run(texts(2), overrides={"temperature_override": 0.0})
    assert told(eager_cj, batch_id, "result")["assessment_metadata"]["llm_temperature"] == 0.0


def test_what_the_sender_wants_otherwise_reaches_the_provider(database_url: str) -> None:
    wanted = {
        "provider_override": " OpenAI ",
        "model_override": "a-model",
        "temperature_override": 0.0,
        "max_tokens_override": 5,
        "system_prompt_override": "You judge.",
        "reasoning_effort": "none",
        "output_verbosity": "high",
    }
    with serving() as service, eager_platform(database_url, LLM_PROVIDER_SERVICE_URL=service.url) as platform:
        service.told = Answer(202, b'{"queue_id": "q"}')
        platform.request(texts(2), overrides={**wanted, "judge_rubric_override": "Look at the commas."})
        platform._turn()
        body = json.loads(service.bodies[0])

    assert body["llm_config_overrides"] == wanted | {"provider_override": "openai"}
    assert "Look at the commas." in body["user_prompt"]
    assert body["callback_topic"] == platform.runtime.settings.LLM_PROVIDER_CALLBACK_TOPIC


def test_each_essay_without_a_score_is_named_with_its_reason(eager_cj: EagerPlatform) -> None:
    content = eager_cj.content
    ids = {"good": content.put(b"One."), "better": content.put(b"Two."), "blank": content.put(b" \n")}
    ids |= {"missing": "0" * 32, "no hex": "climb/../up", "broken": content.put(b"Three.")}
    content.change({"errors": {ids["broken"]: 503}})
    began = eager_cj.clock()
    essays = [{"essay_id": essay, "text_storage_id": storage_id} for essay, storage_id in ids.items()]
    eager_cj.deliver(Kind.REQUEST, request("reasons", {"essays_for_cj": essays}))
    eager_cj.pump()

    summary = told(eager_cj, own("reasons-batch"), "completed")["processing_summary"]
    assert (summary["total_essays"], summary["successful"], summary["failed"]) == (6, 2, 4)
    assert summary["successful_essay_ids"] == ["good", "better"]
    assert summary["failed_essay_ids"] == ["blank", "missing", "no hex", "broken"]
    assert summary["failed_essay_reasons"] == {
        "blank": "INVALID_RESPONSE",
        "missing": "RESOURCE_NOT_FOUND",
        "no hex": "CONTENT_SERVICE_ERROR",
        "broken": "CONTENT_SERVICE_ERROR",
    }
    assert timedelta(minutes=5) <= eager_cj.clock() - began < timedelta(minutes=7), "broken was tried for five minutes"
    ranked = told(eager_cj, own("reasons-batch"), "result")["essay_results"]
    assert {essay["essay_id"] for essay in ranked} == {"good", "better"}


def test_an_essay_that_nobody_compared_is_last_without_a_score(eager_cj: EagerPlatform) -> None:
    batch_id = unscored(eager_cj)
    last = told(eager_cj, batch_id, "result")["essay_results"][-1]
    summary = told(eager_cj, batch_id, "completed")["processing_summary"]
    assert (last["rank"], last["bt_score"]) == (3, 0.0)
    assert summary["failed_essay_ids"] == [last["essay_id"]]
    assert "failed_essay_reasons" not in summary, "it has a text, and nothing is wrong with it"


def whole(platform: EagerPlatform) -> str:
    essays = [{"essay_id": essay, "text_storage_id": platform.content.put(b"An essay.")} for essay in texts(5)]
    platform.deliver(Kind.REQUEST, request("whole", {"essays_for_cj": essays, "org_id": "a-school"}))
    platform.pump()
    return own("whole-batch")


def single(platform: EagerPlatform) -> str:
    return platform.run(texts(1))


def unscored(platform: EagerPlatform) -> str:
    return platform.run(texts(3), max_comparisons=1)


def textless(platform: EagerPlatform) -> str:
    return platform.run(dict.fromkeys(texts(5), " "))


def refused(platform: EagerPlatform) -> str:
    return platform.run(texts(2), user_id="")


def hopeless(platform: EagerPlatform) -> str:
    platform.provider.change({"error_rate": 1.0, "error_codes": ["QUOTA_EXCEEDED"]})
    return platform.run(texts(5))


def stuck(platform: EagerPlatform) -> str:
    platform.provider.change({"refuse_rate": 1.0})
    batch_id = platform.request(texts(5))
    platform._turn()
    platform.clock.advance(timedelta(hours=5))
    platform._caught_up()
    bells.ring(monitor.monitor(platform.runtime))
    assert platform.state(batch_id).state is BatchStateEnum.FAILED
    return batch_id


SCENES: dict[str, tuple[str, Callable[[EagerPlatform], str]]] = {
    "completed_success": ("completed", whole),
    "result_no_anchors": ("result", whole),
    "resource_consumption": ("consumption", whole),
    "completed_single_essay": ("completed", single),
    "result_single_essay": ("result", single),
    "resource_consumption_zero": ("consumption", single),
    "completed_some_failed": ("completed", unscored),
    "result_unscored_essay": ("result", unscored),
    "completed_all_failed": ("completed", textless),
    "failed_initialization": ("failed", refused),
    "failed_low_success_rate": ("failed", hopeless),
    "failed_stuck_timeout": ("failed", stuck),
}

MEANT_OTHERWISE = {
    "completed_all_failed": {"data.processing_summary.failed_essay_reasons": "the reasons are ours"},
    "failed_initialization": {"data.system_metadata.error_info.details": "each error has details of its own"},
    "failed_low_success_rate": {"data.system_metadata.started_at": "the platform leaves out the zone"},
    "failed_stuck_timeout": {
        "data.system_metadata.started_at": "the platform leaves out the zone",
        "metadata": "the platform leaves it null on this way alone",
    },
}


@pytest.mark.parametrize("name", SCENES)
def test_an_event_is_field_by_field_what_the_platform_sends(eager_cj: EagerPlatform, name: str) -> None:
    path = FIXTURES / "outgoing" / f"{name}.json"
    if not path.exists():
        pytest.skip("the platform's fixtures are not beside the repository")
    kind, scene = SCENES[name]
    batch_id = scene(eager_cj)
    (event,) = (event for event in eager_cj.events(batch_id) if event.kind == kind)

    theirs = json.loads(path.read_text(encoding="utf-8"))
    found = dict(differences("", event.envelope, theirs))
    meant = MEANT_OTHERWISE.get(name, {})
    assert {place for place in found if not place.startswith(tuple(meant))} == set(), found
    assert all(any(place.startswith(known) for place in found) for known in meant), "no difference is kept for nothing"


def test_every_outgoing_fixture_without_anchors_has_its_scene() -> None:
    if not FIXTURES.is_dir():
        pytest.skip("the platform's fixtures are not beside the repository")
    assert {Path(path).stem for path in (FIXTURES / "outgoing").glob("*.json")} - {"result_with_anchors"} == set(SCENES)


def differences(path: str, ours: Any, theirs: Any) -> Iterator[tuple[str, str]]:
    """Tell where keys, types, the form of times, or values that belong to the contract differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            place = f"{path}.{key}".removeprefix(".")
            if key in ours and key in theirs:
                yield from differences(place, ours[key], theirs[key])
            else:
                yield place, f"only {'ours' if key in ours else 'theirs'}"
    elif isinstance(ours, list) and isinstance(theirs, list):
        for one, other in zip(ours, theirs, strict=False):
            yield from differences(f"{path}[]", one, other)
    elif form(ours) != form(theirs) or (path.rsplit(".", 1)[-1] in SAME and ours != theirs):
        yield path, f"{ours!r} where the platform has {theirs!r}"


def form(value: Any) -> str:
    """Return the type of a value, and of a time how its zone is written."""
    if isinstance(value, str) and (time := TIME.match(value)):
        return f"a time with {value[time.end() :] or 'nothing'}"
    return type(value).__name__
