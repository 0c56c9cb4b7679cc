"""Supervised warm start from scratch: the base model of the embedded study.

A plain loop. The batch of a step is a function of the seed and the step alone, and a checkpoint holds weights,
optimizer and random state, so that a killed run that is started again ends with the same weights as one that was
never interrupted.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gainwatt.atomic import atomic_folder, atomic_path
from gainwatt.embedded.tokenizer import encode_examples
from gainwatt.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

Example = tuple[list[int], list[int]]
OnStep = Callable[[dict[str, float]], None]

_ANNOTATION = re.compile(r"<<[^<>]*>>")
# Batches are cut from groups of this many batches sorted by length: less padding, still mixed.
_BUCKET_BATCHES = 8


@dataclass(frozen=True)
class Settings:
    """Settings of the warm start. The loss is cross-entropy on the answer's tokens and the end token.

    `steps` batches of `batch_size` examples; AdamW with a peak of `learning_rate`, linear warm-up over
    `warmup_steps`, then linear decay to `final_lr_share` of the peak at step `decay_steps` (default: `steps`;
    larger stops the run before it has cooled down). With `bf16` the matrix products are in bf16, weights and
    optimizer stay in fp32.
    """

    steps: int = 800
    batch_size: int = 16
    learning_rate: float = 2e-3
    warmup_steps: int = 30
    decay_steps: int | None = None
    final_lr_share: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 0
    checkpoint_steps: int = 100
    prompt_template: str = "{question}"
    bf16: bool = False

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        last = self.decay_steps or self.steps
        left = max(0.0, (last - step) / max(1, last - self.warmup_steps))
        return self.learning_rate * (self.final_lr_share + (1.0 - self.final_lr_share) * left)


def run(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Mapping[str, str]],
    settings: Settings,
    work_dir: Path | str,
    on_step: OnStep | None = None,
) -> None:
    """Train `model` in place on `rows` {question, answer}; go on from the checkpoint in `work_dir` if there is one.

    `on_step` gets {step, loss, learning_rate, grad_norm, tokens, seconds} after each step, `step` counted from 1.
    Raises InputError when there are fewer rows than a batch, or when the checkpoint belongs to other data, settings
    or shapes.
    """
    from tqdm.auto import tqdm

    examples = encode_rows(tokenizer, rows, settings)
    optimizer = _optimizer(model, settings)
    keeper = _Keeper(Path(work_dir), _fingerprint(model, examples, settings))
    done = keeper.load(model, optimizer)
    model.train()
    bar = tqdm(total=settings.steps, initial=done, desc="warm start", unit="step", mininterval=2.0)
    with bar:
        for step in range(done, settings.steps):
            started = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(step)
            batch = [examples[i] for i in batch_of(examples, settings, step)]
            metrics = _train_step(model, optimizer, batch, tokenizer.pad_token_id, settings)
            if (step + 1) % settings.checkpoint_steps == 0 or step + 1 == settings.steps:
                keeper.save(model, optimizer, step + 1)
            bar.update(1)
            if on_step is not None:
                seconds = time.perf_counter() - started
                on_step({"step": step + 1, "learning_rate": settings.rate(step), "seconds": seconds, **metrics})
    model.eval()


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path | str) -> None:
    """Write weights (safetensors), config, generation config and tokenizer to `folder`, whole or not at all."""
    with atomic_folder(folder) as path:
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)


def strip_annotations(answer: str) -> str:
    """Remove GSM8K's <<3*4=12>> calculator annotations: the model writes plain steps."""
    return _ANNOTATION.sub("", answer)


def texts(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return what the tokenizer learns from: question and plain solution of each row."""
    return [f"{row['question']}\n{strip_annotations(row['answer'])}" for row in rows]


def encode_rows(
    tokenizer: PreTrainedTokenizerFast, rows: Sequence[Mapping[str, str]], settings: Settings
) -> list[Example]:
    """Return the token ids (prompt, answer) of each row, the annotations removed."""
    if len(rows) < settings.batch_size:
        raise InputError(
            f"{len(rows)} warm-start rows do not fill a batch of {settings.batch_size}",
            "generate more rows or use smaller batches",
        )
    template = settings.prompt_template
    pairs = [(template.replace("{question}", row["question"]), strip_annotations(row["answer"])) for row in rows]
    return encode_examples(tokenizer, pairs)


def batch_of(examples: Sequence[Example], settings: Settings, step: int) -> list[int]:
    """Return the examples of a step: epochs in a fresh seeded order, neighbours of similar length in one batch."""
    size = settings.batch_size
    per_epoch = len(examples) // size
    epoch, place = divmod(step, per_epoch)
    order = _order(settings.seed, epoch, len(examples))
    bucket, slot = divmod(place, _BUCKET_BATCHES)
    first = bucket * _BUCKET_BATCHES
    count = min(_BUCKET_BATCHES, per_epoch - first)
    members = sorted(order[first * size : (first + count) * size], key=lambda i: (sum(map(len, examples[i])), i))
    slots = list(range(count))
    random.Random(f"{settings.seed}/{epoch}/{bucket}").shuffle(slots)  # noqa: S311
    return members[slots[slot] * size : (slots[slot] + 1) * size]


_ORDERS: dict[tuple[int, int, int], list[int]] = {}


def _order(seed: int, epoch: int, count: int) -> list[int]:
    key = (seed, epoch, count)
    if key not in _ORDERS:
        _ORDERS.clear()
        order = list(range(count))
        random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311
        _ORDERS[key] = order
    return _ORDERS[key]


def batch_loss(model: Qwen2ForCausalLM, batch: Sequence[Example], pad: int) -> torch.Tensor:
    """Return the mean cross-entropy over the answer tokens of a batch (a scalar with gradient)."""
    import torch

    width = max(len(prompt) + len(answer) for prompt, answer in batch)
    ids = torch.full((len(batch), width), pad)
    answers = torch.zeros((len(batch), width), dtype=torch.bool)
    for i, (prompt, answer) in enumerate(batch):
        ids[i, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        answers[i, len(prompt) : len(prompt) + len(answer)] = True
    ids, answers = ids.to(model.device), answers.to(model.device)
    # Padding lies right of the text and attention looks left only: no mask is needed. Logits are made for answers
    # only.
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[:, :-1][answers[:, 1:]])
    return torch.nn.functional.cross_entropy(logits.float(), ids[answers])


def _train_step(
    model: Qwen2ForCausalLM, optimizer: torch.optim.Optimizer, batch: Sequence[Example], pad: int, settings: Settings
) -> dict[str, float]:
    import torch

    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=settings.bf16):
        loss = batch_loss(model, batch, pad)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
    optimizer.step()
    tokens = sum(len(prompt) + len(answer) for prompt, answer in batch)
    return {"loss": float(loss.detach()), "grad_norm": float(norm), "tokens": float(tokens)}


def _optimizer(model: Qwen2ForCausalLM, settings: Settings) -> torch.optim.Optimizer:
    import torch

    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, fused=True)


def _fingerprint(model: Qwen2ForCausalLM, examples: Sequence[Example], settings: Settings) -> str:
    """Identify what a checkpoint belongs to. How often it is saved does not matter for what it holds."""
    fields = {key: value for key, value in asdict(settings).items() if key != "checkpoint_steps"}
    shapes = {name: list(p.shape) for name, p in model.named_parameters()}
    digest = hashlib.sha256(json.dumps([fields, shapes], sort_keys=True).encode())
    for example in examples:  # one by one: as one text, hundreds of thousands of them would take gigabytes
        digest.update(json.dumps(example).encode())
    return digest.hexdigest()


class _Keeper:
    """Saves and loads the one checkpoint of a run."""

    def __init__(self, work_dir: Path, fingerprint: str) -> None:
        self.path = work_dir / "checkpoint.pt"
        self.fingerprint = fingerprint

    def save(self, model: Qwen2ForCausalLM, optimizer: torch.optim.Optimizer, step: int) -> None:
        import torch

        with atomic_path(self.path) as path:
            state = {
                "fingerprint": self.fingerprint,
                "step": step,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "rng": torch.get_rng_state(),
            }
            torch.save(state, path)

    def load(self, model: Qwen2ForCausalLM, optimizer: torch.optim.Optimizer) -> int:
        """Restore the state and return the number of finished steps (0 without a checkpoint)."""
        import torch

        if not self.path.exists():
            return 0
        try:
            state = torch.load(self.path, weights_only=True)
        except Exception as error:
            raise InputError(
                f"the warm-start checkpoint {self.path} cannot be read: {error}", "delete it to start afresh"
            ) from error
        if state.get("fingerprint") != self.fingerprint:
            raise InputError(
                f"the warm-start checkpoint {self.path} was made with other data, settings or model sizes",
                "delete it to start afresh, or use another working folder",
            )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        return int(state["step"])
