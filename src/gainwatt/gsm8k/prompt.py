"""The prompt: one user turn through the tokenizer's own chat template."""

from __future__ import annotations

from typing import Any

from gainwatt.errors import InputError

# The wording is an interface: training, evaluation and serving ask in the same words, and results depend on them.
DEFAULT_TEMPLATE = (
    "Solve the math problem. Show the reasoning briefly. End with exactly one final line in the form "
    "#### <answer>, then stop. Do not write another problem or dialogue after the answer.\n\nProblem: {question}"
)


def user_turn(question: str, template: str = DEFAULT_TEMPLATE) -> str:
    """The text of the user turn that asks `question`; `{question}` in the template is replaced, nothing else."""
    return template.replace("{question}", question)


def chat_prompt(
    tokenizer: Any,
    question: str,
    template: str = DEFAULT_TEMPLATE,
    *,
    system: str | None = None,
) -> str:
    """The whole prompt as text: `question` through the chat template of `tokenizer`, up to the assistant's turn.

    Tokenise it without adding special tokens: the template has written them. With `system` None no system turn is
    given, and the template adds its own default where it has one (Qwen2.5 does). Whether a model thinks first stands in
    its checkpoint's template (`gainwatt.thinking`). Raises InputError, naming the tokenizer, where it has no chat
    template or the template refuses the turns.
    """
    turns = _turns(question, template, system)
    return _render(tokenizer, turns, add_generation_prompt=True)


def solved_chat(tokenizer: Any, question: str, solution: str, template: str = DEFAULT_TEMPLATE) -> str:
    """Prompt and `solution` as text, the solution as the assistant's turn that the chat template writes.

    Starts with `chat_prompt(tokenizer, question, template)`, so that the solution's tokens can be told from the
    prompt's. Raises InputError as `chat_prompt` does, and where the template rewrites the prompt once it is answered.
    """
    turns = [*_turns(question, template, None), {"role": "assistant", "content": solution}]
    text = _render(tokenizer, turns, add_generation_prompt=False)
    if not text.startswith(chat_prompt(tokenizer, question, template)):
        raise InputError(
            f"the chat template of {_name(tokenizer)} writes a question differently once it is answered",
            "set evaluate.reference_nll to false and use schemes without calibration for this model",
        )
    return text


def _turns(question: str, template: str, system: str | None) -> list[dict[str, str]]:
    turns = [] if system is None else [{"role": "system", "content": system}]
    return [*turns, {"role": "user", "content": user_turn(question, template)}]


def _name(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)


def _render(tokenizer: Any, turns: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"the tokenizer {_name(tokenizer)} has no chat template",
            "use the instruction-tuned checkpoint's tokenizer, or set tokenizer.chat_template before the run",
        )
    from jinja2 import TemplateError  # transformers renders templates with it

    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt))
    except TemplateError as error:
        raise InputError(
            f"the chat template of {_name(tokenizer)} refused the turns: {error}",
            "leave the system turn out if the template knows no system role",
        ) from error
