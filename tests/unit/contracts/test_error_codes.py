import pytest

from cjtasks.contracts.error_codes import CANNOT_IMPROVE, ErrorCode


def test_each_code_is_its_own_name() -> None:
    assert all(code.value == code.name for code in ErrorCode)


def test_the_set_is_closed() -> None:
    assert len(ErrorCode) == 79
    with pytest.raises(ValueError, match="rate_limit"):
        ErrorCode("rate_limit")


@pytest.mark.parametrize(
    "code",
    ["AUTHENTICATION_ERROR", "AUTHORIZATION_ERROR", "INVALID_API_KEY", "QUOTA_EXCEEDED", "CONTENT_TOO_LONG"],
)
def test_asking_again_cannot_mend_a_key_a_quota_or_a_text(code: str) -> None:
    assert code in CANNOT_IMPROVE


@pytest.mark.parametrize(
    "code",
    [
        "RATE_LIMIT",
        "TIMEOUT",
        "EXTERNAL_SERVICE_ERROR",
        "INVALID_RESPONSE",
        "PARSING_ERROR",
        "LLM_QUEUE_FULL",
    ],
)
def test_what_passes_may_be_asked_again(code: str) -> None:
    assert code not in CANNOT_IMPROVE
