"""When the fake LLM Provider answers, and what: fate, then judge, then sink."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from cjtasks.dev.fake_provider_behaviour import fate_of
from cjtasks.dev.fake_provider_callback import failure, success
from cjtasks.dev.judges import Judge, LatentJudge, Shown, Temperament, TextJudge, Verdict, rng_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from cjtasks.dev.fake_provider_behaviour import ProviderBehaviour
    from cjtasks.dev.fake_provider_callback import Question

    Sink: TypeAlias = Callable[[str, bytes], None]


def judge_of(behaviour: ProviderBehaviour) -> Judge:
    """Build the judge that the behaviour names.

    It is sticky: correlation ids are new in every run, and the same seed shall give the same ranking.
    """
    steady = Temperament(stickiness=1.0, seed=behaviour.seed)
    if behaviour.judge == "latent":
        return LatentJudge(seed=behaviour.seed, temperament=steady)
    return TextJudge(temperament=steady)


class Answers:
    """Sends the callbacks of accepted questions, each on the running loop when its time has come.

    `counts` holds lost, callbacks, errors, duplicates (of which contradictions) and pending.
    """

    def __init__(self, sink: Sink, judge: Judge) -> None:
        self.judge = judge
        self.counts: Counter[str] = Counter()
        self._sink = sink

    def schedule(self, question: Question) -> None:
        seed = question.behaviour.seed
        fate = fate_of(question.behaviour, rng_for("fate", seed, question.correlation_id, question.attempt))
        if fate.lost:
            self.counts["lost"] += 1
            return
        self._later(fate.delay, lambda: self._answer(question, fate.error_code))
        if fate.repeated_after is not None:
            self._later(fate.repeated_after, lambda: self._repeat(question, fate.error_code))
        if fate.contradicted_after is not None:
            self._later(fate.contradicted_after, lambda: self._contradict(question))

    def _later(self, delay: float, send: Callable[[], None]) -> None:
        self.counts["pending"] += 1
        asyncio.get_running_loop().call_later(delay, send)

    def _answer(self, question: Question, error_code: str | None) -> None:
        if error_code is None:
            self._send(question, success(question, self._verdict(question)))
        else:
            self.counts["errors"] += 1
            self._send(question, failure(question, error_code))

    def _repeat(self, question: Question, error_code: str | None) -> None:
        self.counts["duplicates"] += 1
        self._answer(question, error_code)

    def _contradict(self, question: Question) -> None:
        self.counts.update(("duplicates", "contradictions"))
        verdict = self._verdict(question)
        other = replace(verdict, winner="Essay B" if verdict.winner == "Essay A" else "Essay A")
        self._send(question, success(question, other))

    def _send(self, question: Question, payload: bytes) -> None:
        self._sink(question.request.callback_topic, payload)
        self.counts["callbacks"] += 1
        self.counts["pending"] -= 1

    def _verdict(self, question: Question) -> Verdict:
        rng = rng_for("verdict", question.behaviour.seed, question.correlation_id, question.attempt)
        return self.judge(self._shown(question), rng)

    def _shown(self, question: Question) -> Shown:
        metadata = question.request.metadata
        reads = getattr(self.judge, "reads_texts", True)
        texts = question.request.essay_texts() if reads else {"A": "", "B": ""}
        return Shown(
            essay_a_id=str(metadata.get("essay_a_id", "")),
            essay_b_id=str(metadata.get("essay_b_id", "")),
            text_a=texts["A"],
            text_b=texts["B"],
            attempt=question.attempt,
        )
