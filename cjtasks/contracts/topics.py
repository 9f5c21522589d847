"""Default topic names, and the type that the envelope of each kind of event names.

Topics can be renamed by a setting; the event types cannot, because consumers dispatch on them.
"""

from types import MappingProxyType
from typing import Final

REQUEST_TOPIC: Final = "huleedu.els.cj_assessment.requested.v1"
CALLBACK_TOPIC: Final = "huleedu.llm_provider.comparison_result.v1"
COMPLETED_TOPIC: Final = "huleedu.cj_assessment.completed.v1"
FAILED_TOPIC: Final = "huleedu.cj_assessment.failed.v1"
RESULT_TOPIC: Final = "huleedu.assessment.result.published.v1"
PARTIAL_RESULT_TOPIC: Final = "huleedu.cj_assessment.partial_result.v1"
CONSUMPTION_TOPIC: Final = "huleedu.resource.consumption.v1"

REQUEST_EVENT_TYPE: Final = REQUEST_TOPIC
# The platform names a callback by its class, not by its topic.
CALLBACK_EVENT_TYPE: Final = "LLMComparisonResultV1"

EVENT_TYPES: Final = MappingProxyType(
    {
        "completed": COMPLETED_TOPIC,
        "failed": FAILED_TOPIC,
        # The result event alone carries a short name without the platform's prefix and version.
        "result": "assessment.result.published",
        "consumption": CONSUMPTION_TOPIC,
        # Ours, beside the platform's contract: a partial result never stands on a topic that others take as final.
        "partial": PARTIAL_RESULT_TOPIC,
    }
)
