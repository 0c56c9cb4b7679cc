"""Thinking switched in the chat template of a checkpoint."""

from __future__ import annotations

import json
import shutil

import pytest

from factories import run_script, study_content, write_study
from gainwatt.checkpoint import read_manifest
from gainwatt.errors import InputError
from gainwatt.gsm8k.prompt import chat_prompt, solved_chat
from gainwatt.modeling import load_tokenizer
from gainwatt.study import load_study
from gainwatt.thinking import set_thinking

# As Qwen3's: nothing said is thinking; switched off, an empty thought stands before every answer.
TEMPLATE = (
    "\n{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{%- if m.role == 'assistant' %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{{ m.content }}"
    "{{- '<|im_end|>\\n' }}{% endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)


@pytest.fixture
def source(tmp_path, tiny_folder):
    """The tiny checkpoint with a template that knows the switch."""
    folder = tmp_path / "source"
    shutil.copytree(tiny_folder, folder)
    (folder / "manifest.json").unlink()
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "model.safetensors").chmod(0o444)
    return folder


def fetch(tmp_path, source, **model):
    model = {"source": str(source), "dtype": "fp32", **model}
    done = run_script("fetch_model", "--study", write_study(tmp_path, study_content(tmp_path, model=model)))
    return done, tmp_path / "results" / "tiny" / "checkpoints" / "base" / "dense"


@pytest.mark.parametrize("thinking", [True, False])
def test_a_study_switches_it_in_a_copy_of_links(tmp_path, source, thinking):
    plain = chat_prompt(load_tokenizer(source), "Q?")
    done, made = fetch(tmp_path, source, thinking=thinking)
    assert done.returncode == 0, done.stderr
    prompt = chat_prompt(load_tokenizer(made), "Q?")
    assert prompt == plain + ("" if thinking else "<think>\n\n</think>\n\n")
    assert (source / "chat_template.jinja").read_text() == TEMPLATE
    assert (made / "model.safetensors").is_symlink()
    assert (source / "model.safetensors").stat().st_mode & 0o777 == 0o444
    found = read_manifest(made / "manifest.json")
    assert found.folder == made
    assert solved_chat(load_tokenizer(made), "Q?", "#### 2").startswith(prompt)


def test_a_template_in_the_tokenizers_configuration_is_changed_as_well(source):
    (source / "chat_template.jinja").unlink()
    file = source / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": TEMPLATE}))
    plain = chat_prompt(load_tokenizer(source), "Q?")
    set_thinking(source, on=False)
    assert chat_prompt(load_tokenizer(source), "Q?") == plain + "<think>\n\n</think>\n\n"


def test_a_line_break_at_the_beginning_stays(source):
    (source / "chat_template.jinja").write_text("\n{{ messages[0].content }}{{ enable_thinking }}")
    set_thinking(source, on=True)
    assert chat_prompt(load_tokenizer(source), "Q?", "{question}") == "\nQ?True"


@pytest.mark.parametrize("template", ["{{ messages[0].content }}", None])
def test_a_model_without_the_switch_is_named(tmp_path, source, template):
    if template is None:
        (source / "chat_template.jinja").unlink()
    else:
        (source / "chat_template.jinja").write_text(template)
    done, made = fetch(tmp_path, source, thinking=False)
    assert done.returncode == 2
    assert "knows no 'enable_thinking'" in done.stderr if template else "no single chat template" in done.stderr
    assert not made.exists()


def test_the_embedded_model_has_no_thinking(tmp_path):
    with pytest.raises(InputError, match="embedded model has no thinking"):
        load_study(write_study(tmp_path, study_content(tmp_path, model={"source": "embedded", "thinking": False})))
