"""Judges that need no language model: they tell the fake LLM Provider which essay is better.

A judge is a callable `judge(shown, rng) -> Verdict`. It keeps no state and draws only from the `rng` that it
is given; `rng_for` makes that one from a seed and the names of the question, so a question gets the same
verdict whatever was asked before it.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from random import Random
from statistics import NormalDist
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from cjtasks.errors import Misconfigured

if TYPE_CHECKING:
    from pathlib import Path

Winner: TypeAlias = Literal["Essay A", "Essay B"]


@dataclass(frozen=True)
class Shown:
    """One question as the judge sees it; `attempt` says how often this correlation id was asked, from 1."""

    essay_a_id: str
    essay_b_id: str
    text_a: str
    text_b: str
    attempt: int = 1


@dataclass(frozen=True)
class Verdict:
    """An answer on the wire's scales: confidence 1.0 to 5.0, justification of at most 500 characters."""

    winner: Winner
    confidence: float
    justification: str


Judge: TypeAlias = Callable[[Shown, Random], Verdict]


def rng_for(*names: object) -> Random:
    """Randomness that depends on these names alone, the same in every process (unlike `hash`)."""
    return Random(_number_of(names))


def _number_of(names: tuple[object, ...]) -> int:
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:8])


def _logistic(logit: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * logit))


def _confidence(logit: float) -> float:
    """1 when both are equally likely to win, 5 when the winner is certain."""
    return round(1.0 + 4.0 * math.tanh(0.5 * abs(logit)), 1)


@dataclass(frozen=True)
class Temperament:
    """What a judge adds to its reading of the essays.

    side: logits in favour of Essay A, whatever it is. lapse: share of answers that are a coin toss.
    stickiness: share of answers that depend on `seed` and the ordered pair alone, so that asking again gives
    the same; 1.0 makes a whole run reproducible even where the correlation ids are new every time.
    """

    side: float = 0.0
    lapse: float = 0.0
    stickiness: float = 0.0
    seed: int = 0

    def decide(self, logit: float, shown: Shown, rng: Random) -> Winner:
        """Toss for Essay A with probability 1 / (1 + exp(-(logit + side)))."""
        if rng.random() < self.stickiness:
            rng = rng_for("pair", self.seed, shown.essay_a_id, shown.essay_b_id)
        lapses = rng.random() < self.lapse
        chance = 0.5 if lapses else _logistic(logit + self.side)
        return "Essay A" if rng.random() < chance else "Essay B"


@dataclass(frozen=True)
class LatentJudge:
    """Knows each essay's true score (in logits) and answers by Bradley-Terry with its temperament on top.

    An essay without an entry in `scores` has one drawn from a normal with mean 0 and standard deviation
    `spread`, fixed by `seed` and its id. The texts are not looked at.
    """

    scores: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    spread: float = 2.0
    seed: int = 0
    temperament: Temperament = Temperament()
    reads_texts = False

    def true_score(self, essay_id: str) -> float:
        if essay_id in self.scores:
            return self.scores[essay_id]
        uniform = (_number_of(("score", self.seed, essay_id)) + 0.5) / 2**64
        return self.spread * NormalDist().inv_cdf(uniform)

    def __call__(self, shown: Shown, rng: Random) -> Verdict:
        logit = self.true_score(shown.essay_a_id) - self.true_score(shown.essay_b_id)
        winner = self.temperament.decide(logit, shown, rng)
        return Verdict(winner, _confidence(logit), f"{winner} is the stronger piece of writing as a whole.")


_CONNECTIVES = re.compile(
    r"\b(?:however|moreover|furthermore|therefore|nevertheless|consequently|although|because|whereas|besides"
    r"|instead|admittedly|naturally|meanwhile|precisely|rather|firstly|secondly|finally|otherwise|while|since"
    r"|despite|unless|namely|thus|hence|indeed|yet)\b",
    re.IGNORECASE,
)
_MISSPELT = re.compile(
    r"\b(?:alot|becouse|becuase|beleive|cuz|definately|dont|cant|wont|isnt|doesnt|im|ive|thats|shoud|coud|woud"
    r"|enviroment|goverment|peopel|realy|recieve|seperate|thier|tommorow|ur|wich|writting|allways)\b",
    re.IGNORECASE,
)
_ODD = re.compile(
    r"\bi\b"  # the pronoun without its capital
    r"|(?<=[.!?]\s)[a-z]|^[a-z]"  # a sentence or a line that begins small
    r"|[!?,]{2,}|\s[,.!?]|[,;][^\W\d]"  # punctuation doubled, floating, or glued to the next word
    r"|([a-z])\1\1"  # a letter three times
    r"|\b[A-Z]{2,}!",  # shouting
    re.MULTILINE,
)
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_USEFUL_WORDS, _GOOD_SENTENCE, _LONG_WORD = 230, 17.0, 7


def _share(value: float, nothing: float, everything: float) -> float:
    """Where value lies between the two ends, 0 to 1."""
    return min(1.0, max(0.0, (value - nothing) / (everything - nothing)))


def _sentences(text: str) -> int:
    return max(1, len(re.findall(r"[.!?]+(?=\s|$)", text)))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)] or [""]


def _length(text: str) -> float:
    return _share(len(_words(text)), 0, _USEFUL_WORDS)


def _variety(text: str) -> float:
    words = _words(text)
    return _share(len(set(words)) / math.sqrt(len(words)), 4.5, 10.0)


def _sentence_length(text: str) -> float:
    mean = len(_words(text)) / _sentences(text)
    return 1.0 - _share(abs(mean - _GOOD_SENTENCE), 0, _GOOD_SENTENCE)


def _long_words(text: str) -> float:
    words = _words(text)
    return _share(sum(len(word) >= _LONG_WORD for word in words) / len(words), 0.04, 0.26)


def _paragraphs(text: str) -> float:
    return _share(len([part for part in re.split(r"\n\s*\n", text) if part.strip()]), 1, 4)


def _connectives(text: str) -> float:
    return _share(len({word.lower() for word in _CONNECTIVES.findall(text)}), 0, 5)


def _correctness(text: str) -> float:
    words = _words(text)
    odd = len(_ODD.findall(text)) + len(_MISSPELT.findall(text))
    return 1.0 - _share(100 * odd / len(words), 0, 5)


def _freshness(text: str) -> float:
    words = _words(text)
    seen = Counter(pairwise(words))
    repeated = sum(times - 1 for times in seen.values())
    return 1.0 - _share(repeated / len(words), 0.02, 0.25)


class Measure(NamedTuple):
    """One thing that can be counted in a text: its value is 0 (weak) to 1 (strong)."""

    weight: float
    in_words: str
    value: Callable[[str], float]


MEASURES = (
    Measure(0.12, "it is developed at greater length", _length),
    Measure(0.20, "its vocabulary is more varied", _variety),
    Measure(0.08, "its sentences have a better length", _sentence_length),
    Measure(0.20, "its choice of words is more advanced", _long_words),
    Measure(0.05, "it is better divided into paragraphs", _paragraphs),
    Measure(0.10, "its ideas are linked more clearly", _connectives),
    Measure(0.15, "it has fewer slips in spelling and punctuation", _correctness),
    Measure(0.10, "it repeats itself less", _freshness),
)


@lru_cache(maxsize=4096)
def _weighted(text: str) -> tuple[float, ...]:
    return tuple(measure.weight * measure.value(text) for measure in MEASURES)


def quality(text: str) -> float:
    """Sum of the weighted measures, 0 to 1."""
    return sum(_weighted(text))


@dataclass(frozen=True)
class TextJudge:
    """Reads both texts and prefers the one that is better by simple measures of the writing.

    length: words, saturating at 230.
    vocabulary variety: distinct words over the square root of all words (Guiraud's index), 4.5 to 10.
    sentence length: nearness of the mean to 17 words.
    long words: share of words of seven letters or more, 4 % to 26 %.
    paragraphs: one to four.
    connectives: distinct linking words, up to five.
    correctness: odd spellings, missing capitals, stray punctuation per 100 words, five being the worst.
    freshness: share of word pairs that were there before, 25 % down to 2 %.

    The difference in `quality` times `sharpness` is the logit that Essay A is better. No judge of good
    writing, but one whose ranking can be explained and checked.
    """

    sharpness: float = 8.0
    temperament: Temperament = Temperament()
    reads_texts = True

    def __call__(self, shown: Shown, rng: Random) -> Verdict:
        logit = self.sharpness * (quality(shown.text_a) - quality(shown.text_b))
        winner = self.temperament.decide(logit, shown, rng)
        return Verdict(winner, _confidence(logit), _reason(winner, shown))


def _reason(winner: Winner, shown: Shown) -> str:
    a, b = _weighted(shown.text_a), _weighted(shown.text_b)
    ahead = [x - y if winner == "Essay A" else y - x for x, y in zip(a, b, strict=True)]
    best = max(range(len(MEASURES)), key=ahead.__getitem__)
    if ahead[best] <= 0:
        return f"{winner} is preferred by a hair; no single quality of the writing decides."
    return f"{winner} is preferred, above all because {MEASURES[best].in_words}."


@dataclass(frozen=True)
class ReplayJudge:
    """Answers as people once did: by the majority of the recorded decisions on the pair.

    `wins` counts them by (winner's id, loser's id). A tie, or a pair that nobody judged, is a toss of `rng`.
    """

    wins: Mapping[tuple[str, str], int]
    reads_texts = False

    @classmethod
    def from_csv(cls, path: Path) -> ReplayJudge:
        """Read a file with the header winner,loser[,judge]; Misconfigured names a bad line."""
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines)
            if not {"winner", "loser"} <= set(rows.fieldnames or ()):
                raise Misconfigured.of(f"{path.name}: the header needs winner and loser", operation="replay")
            return cls(Counter(_decision(row, f"{path.name}, line {rows.line_num}") for row in rows))

    def __call__(self, shown: Shown, rng: Random) -> Verdict:
        for_a = self.wins.get((shown.essay_a_id, shown.essay_b_id), 0)
        for_b = self.wins.get((shown.essay_b_id, shown.essay_a_id), 0)
        winner: Winner = "Essay A" if for_a - for_b + rng.choice((-0.5, 0.5)) > 0 else "Essay B"
        agreement = abs(for_a - for_b) / max(1, for_a + for_b)
        heard = f"{for_a} recorded decisions for Essay A, {for_b} for Essay B."
        return Verdict(winner, round(1.0 + 4.0 * agreement, 1), heard)


def _decision(row: Mapping[str, str | None], place: str) -> tuple[str, str]:
    winner, loser = row["winner"], row["loser"]
    if not winner or not loser or winner == loser:
        raise Misconfigured.of(f"{place}: winner and loser must be two different ids", operation="replay")
    return winner, loser
