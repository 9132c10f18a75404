"""The prompt for an answer in a word or two, which LLaVA-1.5 and InternVL were trained with."""

from __future__ import annotations

SHORT_ANSWER = "Answer the question using a single word or phrase."


def short_answer_prompt(question: str) -> str:
    """The question, and on a line of its own how to answer it, as in LLaVA's evaluation."""
    return f"{question}\n{SHORT_ANSWER}"
