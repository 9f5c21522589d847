import hashlib
import re

import pytest

from cjtasks.domain.prompts import ANSWER_INSTRUCTION, SYSTEM_PROMPT, EssayText, comparison_prompt

A = EssayText("a1", "Text A")
B = EssayText("b1", "Text B")


def test_the_parts_stand_in_order_with_one_blank_line_between() -> None:
    prompt = comparison_prompt(A, B, "Describe a place.", "Reward structure.")
    assert prompt.text == (
        "**Student Assignment:**\nDescribe a place.\n\n"
        "**Judge Instructions:**\nReward structure.\n\n"
        "**Essay A (ID: a1):**\nText A\n\n"
        "**Essay B (ID: b1):**\nText B\n\n" + ANSWER_INSTRUCTION
    )


def test_the_text_is_the_blocks_joined() -> None:
    prompt = comparison_prompt(A, B, "Describe a place.", "Reward structure.")
    assert prompt.text == "\n\n".join(block.content for block in prompt.blocks)


def test_what_all_comparisons_share_is_cacheable_and_the_essays_are_not() -> None:
    blocks = comparison_prompt(A, B, "Describe a place.", None).blocks
    assert [block.cacheable for block in blocks] == [True, False, False, True]
    assert {(block.ttl, block.target) for block in blocks} == {("5m", "user_content")}


@pytest.mark.parametrize("nothing", [None, "", " \n"])
def test_without_assignment_and_rubric_the_essays_come_first(nothing: str | None) -> None:
    blocks = comparison_prompt(A, B, nothing, nothing).blocks
    assert len(blocks) == 3
    assert blocks[0].content == "**Essay A (ID: a1):**\nText A"


def test_a_rubric_alone_makes_the_context() -> None:
    blocks = comparison_prompt(A, B, None, "Reward structure.").blocks
    assert blocks[0].content == "**Judge Instructions:**\nReward structure."


def test_hashes_are_those_of_the_utf_8_text() -> None:
    prompt = comparison_prompt(EssayText("a1", "Å"), B, None, None)
    assert prompt.blocks[0].content_hash == hashlib.sha256("**Essay A (ID: a1):**\nÅ".encode()).hexdigest()
    assert prompt.sha256 == hashlib.sha256(prompt.text.encode()).hexdigest()


def test_turning_the_pair_round_makes_another_prompt() -> None:
    assert comparison_prompt(A, B, None, None).sha256 != comparison_prompt(B, A, None, None).sha256


@pytest.mark.parametrize("text", [SYSTEM_PROMPT, ANSWER_INSTRUCTION])
def test_the_judge_is_told_one_scale_and_one_limit_everywhere(text: str) -> None:
    assert re.search(r"from 1 \(.*\) to 5 \(", text)
    assert "50 words at most" in text
    assert "Essay A" in text
    assert "Essay B" in text


def test_the_system_prompt_names_the_tool_that_takes_the_answer() -> None:
    assert "`comparison_result`" in SYSTEM_PROMPT
