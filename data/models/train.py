"""Train a toy model, export it as GGUF, and store its greedy texts for comparison.

    python data/models/train.py --model tiny --out data/models

Needs torch 2.13.0 and numpy; nothing else in the project does.
The same machine and the same torch version give the same weights, bit for bit:
one thread, fixed seeds, fixed steps, deterministic algorithms.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corpus
import torch
import torch.nn.functional as F
from encoding import END, decode, encode, prompt_tokens
from torch import Tensor, nn

from workbench.testing import gguf

HERE = Path(__file__).resolve().parent

CONTEXT_LENGTH = 1024
SHORT_LENGTH = 256
TOKENS_PER_STEP = 4096


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hold a model's shape and its training schedule.

    Attributes:
        short_steps: Steps on sequences of 256 tokens only; after them every second step
            takes sequences of 1,024 tokens.
        steps: All steps; each sees 4,096 tokens.
    """

    name: str
    width: int
    layers: int
    heads: int
    feed_forward: int
    short_steps: int
    steps: int
    peak_rate: float = 0.01
    seed: int = 1


RECIPES = {
    "nano": Recipe("toy-nano", 64, 2, 2, 192, short_steps=1800, steps=4400),
    "tiny": Recipe("toy-tiny", 96, 4, 3, 192, short_steps=1800, steps=5000, peak_rate=0.008),
}


class Attention(nn.Module):
    """Attend causally, with rotary positions in interleaved pairs as llama.cpp wants them."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.heads = recipe.heads
        self.q = nn.Linear(recipe.width, recipe.width, bias=False)
        self.k = nn.Linear(recipe.width, recipe.width, bias=False)
        self.v = nn.Linear(recipe.width, recipe.width, bias=False)
        self.output = nn.Linear(recipe.width, recipe.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the attention's output for x of shape (batch, length, width)."""
        batch, length, width = x.shape
        shape = (batch, length, self.heads, width // self.heads)
        q, k, v = (part(x).view(shape).transpose(1, 2) for part in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.output(y.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """One llama block: attention, then a gated feed-forward part."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.attn_norm = nn.RMSNorm(recipe.width, eps=1e-5)
        self.attn = Attention(recipe)
        self.ffn_norm = nn.RMSNorm(recipe.width, eps=1e-5)
        self.gate = nn.Linear(recipe.width, recipe.feed_forward, bias=False)
        self.up = nn.Linear(recipe.width, recipe.feed_forward, bias=False)
        self.down = nn.Linear(recipe.feed_forward, recipe.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the block's output for x of shape (batch, length, width)."""
        x = x + self.attn(self.attn_norm(x), cos, sin)
        y = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """The whole model; `forward` returns the normalised hidden states."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.embedding = nn.Embedding(gguf.VOCAB_SIZE, recipe.width)
        self.blocks = nn.ModuleList(Block(recipe) for _ in range(recipe.layers))
        self.norm = nn.RMSNorm(recipe.width, eps=1e-5)
        self.head = nn.Linear(recipe.width, gguf.VOCAB_SIZE, bias=False)
        half = recipe.width // recipe.heads // 2
        rate = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(CONTEXT_LENGTH, dtype=torch.float64)[:, None] * rate
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                deep = name.endswith(("output.weight", "down.weight"))
                scale = 0.02 if "embedding" in name or "head" in name else weight.shape[1] ** -0.5
                nn.init.normal_(weight, std=scale * (0.3 if deep else 1.0))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return hidden states of shape (batch, length, width)."""
        x = self.embedding(tokens)
        length = tokens.shape[1]
        for block in self.blocks:
            x = block(x, self.cos[:length], self.sin[:length])
        return self.norm(x)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of neighbouring entries by its position's angle."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def batch(rng: random.Random, length: int) -> tuple[Tensor, Tensor]:
    """Return tokens and loss mask of shape (4096 / length, length + 1)."""
    rows, masks = [], []
    for _ in range(TOKENS_PER_STEP // length):
        tokens, counted = encode(corpus.conversation(rng, length + 1))
        rows.append(tokens[: length + 1])
        masks.append(counted[: length + 1])
    return torch.tensor(rows), torch.tensor(masks)


def rate_at(step: int, recipe: Recipe) -> float:
    """Return the learning rate: a short warm-up, flat for half the steps, then linear to 0."""
    warm = min(1.0, (step + 1) / 100)
    return recipe.peak_rate * warm * min(1.0, 2 * (1 - step / recipe.steps))


def weight_hash(model: nn.Module) -> str:
    """Return the sha256 of all weights in the order of their names."""
    digest = hashlib.sha256()
    for _, weight in sorted(model.state_dict().items()):
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


def _optimizers(model: Llama, recipe: Recipe) -> list[torch.optim.Optimizer]:
    named = dict(model.named_parameters())
    inner = [w for name, w in named.items() if w.ndim == 2 and name.startswith("blocks")]
    outer = [w for name, w in named.items() if not (w.ndim == 2 and name.startswith("blocks"))]
    muon = torch.optim.Muon(
        inner, lr=recipe.peak_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, torch.optim.AdamW(outer, lr=recipe.peak_rate, betas=(0.9, 0.98), weight_decay=0)]


def train(recipe: Recipe, *, steps: int | None = None) -> Llama:
    """Train from the recipe's seed for all its steps, or for the first `steps` of them."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe.seed)
    rng = random.Random(f"{recipe.name} {recipe.seed}")
    model = Llama(recipe)
    optimizers = _optimizers(model, recipe)
    started, total = time.process_time(), 0.0
    for step in range(recipe.steps if steps is None else steps):
        long = step >= recipe.short_steps and step % 2 == 0
        tokens, counted = batch(rng, CONTEXT_LENGTH if long else SHORT_LENGTH)
        hidden, wanted = model(tokens[:, :-1]), counted[:, 1:]
        loss = F.cross_entropy(model.head(hidden[wanted]), tokens[:, 1:][wanted])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, recipe)
            optimizer.step()
        total += loss.item()
        if (step + 1) % 100 == 0:
            spent = time.process_time() - started
            print(f"step {step + 1} loss {total / 100:.4f} cpu_s {spent:.0f}", flush=True)
            total = 0.0
    return model.eval()


def _tensor(name: str, weight: Tensor) -> gguf.GGUFTensor:
    values = weight.detach().flatten().tolist()
    shape = tuple(weight.shape)
    if weight.ndim == 1:
        return gguf.GGUFTensor(name, shape, "f32", [gguf.pack_f32(values)])
    return gguf.GGUFTensor(name, shape, "q8_0", [gguf.pack_q8_0(values)])


def export(model: Llama, recipe: Recipe, path: Path) -> None:
    """Write the model as a q8_0 GGUF file (norms stay f32)."""
    tensors = [
        _tensor("token_embd.weight", model.embedding.weight),
        _tensor("output_norm.weight", model.norm.weight),
        _tensor("output.weight", model.head.weight),
    ]
    for place, block in enumerate(model.blocks):
        for name, part in (
            ("attn_norm", block.attn_norm),
            ("attn_q", block.attn.q),
            ("attn_k", block.attn.k),
            ("attn_v", block.attn.v),
            ("attn_output", block.attn.output),
            ("ffn_norm", block.ffn_norm),
            ("ffn_gate", block.gate),
            ("ffn_up", block.up),
            ("ffn_down", block.down),
        ):
            tensors.append(_tensor(f"blk.{place}.{name}.weight", part.weight))
    count = sum(weight.numel() for weight in model.parameters())
    metadata = gguf.llama_metadata(
        name=f"{recipe.name} (toy model)",
        description=(
            f"Toy model of {count:,} parameters, trained by data/models/train.py; "
            "it knows only the tasks of its corpus."
        ),
        quant="q8_0",
        context_length=CONTEXT_LENGTH,
        width=recipe.width,
        layers=recipe.layers,
        heads=recipe.heads,
        feed_forward=recipe.feed_forward,
    )
    gguf.write_gguf(path, metadata=metadata, tensors=tensors)


@torch.no_grad()
def greedy(model: Llama, prompt: list[int], *, limit: int = 240) -> tuple[list[int], float]:
    """Return the greedy tokens (without the end) and the smallest top-2 margin, in logits."""
    tokens, margin = list(prompt), float("inf")
    limit = min(limit, CONTEXT_LENGTH - len(prompt))
    while len(tokens) - len(prompt) < limit:
        logits = model.head(model(torch.tensor([tokens]))[0, -1])
        best, second = torch.topk(logits, 2).values.tolist()
        margin = min(margin, best - second)
        token = int(logits.argmax())
        if token == END:
            break
        tokens.append(token)
    return tokens[len(prompt) :], margin


def store_golden(model: Llama, recipe: Recipe, folder: Path) -> None:
    """Write the model's greedy texts and margins for every stored prompt to golden.json."""
    path = folder / "golden.json"
    golden: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    rows = []
    for prompt in json.loads((HERE / "prompts.json").read_text()):
        turns = [(role, text) for role, text in prompt["turns"]]
        answer, margin = greedy(model, prompt_tokens(turns))
        text = decode(answer)
        rows.append({"id": prompt["id"], "text": text, "margin": round(margin, 4)})
    golden[recipe.name] = {"weights_sha256": weight_hash(model), "answers": rows}
    path.write_text(json.dumps(golden, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def check(recipe: Recipe, steps: int) -> None:
    """Train a few steps twice and compare the weights' hashes.

    Raises:
        SystemExit: The two runs differ.
    """
    # The last steps are taken from the alternating part, so both lengths are covered.
    short = Recipe(**{**_fields(recipe), "short_steps": steps // 2})
    first, second = (weight_hash(train(short, steps=steps)) for _ in range(2))
    print(f"{recipe.name}: {steps} steps twice: {first} {second}")
    if first != second:
        raise SystemExit("the two runs differ")


def _fields(recipe: Recipe) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in Recipe.__slots__}


def main() -> None:
    """Run one of: check reproducibility, train and export, or export stored weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(RECIPES), required=True)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the GGUF file")
    parser.add_argument("--weights", type=Path, help="file to keep the torch weights in")
    parser.add_argument("--reuse", action="store_true", help="read --weights, do not train")
    parser.add_argument("--check", type=int, metavar="STEPS", help="train twice and compare")
    options = parser.parse_args()
    recipe = RECIPES[options.model]
    if options.check:
        check(recipe, options.check)
        return
    if options.reuse:
        model = Llama(recipe).eval()
        model.load_state_dict(torch.load(options.weights, weights_only=True))
    else:
        model = train(recipe)
        if options.weights:
            torch.save(model.state_dict(), options.weights)
    print(f"{recipe.name}: weights sha256 {weight_hash(model)}")
    path = options.out / f"{recipe.name}.gguf"
    export(model, recipe, path)
    print(f"{path.name}: {path.stat().st_size} bytes")
    store_golden(model, recipe, options.out)


if __name__ == "__main__":
    main()
