"""The prompt: one user turn through the tokenizer's own chat template."""

from __future__ import annotations

from typing import Any

from gainwatt.errors import InputError

# The wording is an interface: training, evaluation and serving ask in the same words, and results depend on them.
_USER_TURN = (
    "Solve the math problem. Show the reasoning briefly. End with exactly one final line in the form "
    "#### <answer>, then stop. Do not write another problem or dialogue after the answer.\n\nProblem: "
)


def user_turn(question: str) -> str:
    """The text of the user turn that asks `question`."""
    return _USER_TURN + question


def chat_prompt(
    tokenizer: Any, question: str, *, system: str | None = None, enable_thinking: bool | None = None
) -> str:
    """The whole prompt as text: `question` through the chat template of `tokenizer`, up to the assistant's turn.

    Tokenise it without adding special tokens: the template has written them. With `system` None no system turn is
    given, and the template adds its own default where it has one (Qwen2.5 does). `enable_thinking` reaches the
    template only where it is not None; templates that know no such switch ignore it. Raises InputError, naming the
    tokenizer, where it has no chat template or the template refuses the turns.
    """
    name = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"the tokenizer {name} has no chat template",
            "use the instruction-tuned checkpoint's tokenizer, or set tokenizer.chat_template before the run",
        )
    from jinja2 import TemplateError  # transformers renders templates with it

    turns = [] if system is None else [{"role": "system", "content": system}]
    turns.append({"role": "user", "content": user_turn(question)})
    switches = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
    try:
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **switches)
    except TemplateError as error:
        raise InputError(
            f"the chat template of {name} refused the turns: {error}",
            "leave the system turn out if the template knows no system role",
        ) from error
    return str(prompt)
