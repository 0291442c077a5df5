"""How much memory a model will take, and whether it fits: pure functions of facts and figures.

Estimate = weights + what the layers keep for the context + buffers for one step + what a process
on a GPU costs.  A measured figure, once there is one, takes its place.  The formulas and their
sources are on the page "How memory is estimated".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Final, Literal

from workbench.server.residency.architecture import ModelFacts
from workbench.units import format_bytes

MIB: Final = 2**20
GIB: Final = 2**30

KV_BYTES: Final[Mapping[str, Fraction]] = {
    "f32": Fraction(4),
    "f16": Fraction(2),
    "bf16": Fraction(2),
    "q8_0": Fraction(34, 32),
    "q5_1": Fraction(24, 32),
    "q5_0": Fraction(22, 32),
    "q4_1": Fraction(20, 32),
    "q4_0": Fraction(18, 32),
    "iq4_nl": Fraction(18, 32),
}
"""Bytes of one element of keys and values: ggml's blocks of 32 with their scales."""

GPU_PROCESS_BYTES: Final = 457 * MIB
"""What a process costs on a GPU before it loads anything (Ollama's `MinimumMemory`)."""
ENGINE_PROCESS_BYTES: Final = 40 * MIB
"""Resident memory of an engine process without a model (measured: 35 MiB)."""
GPU_MARGIN_BYTES: Final = GIB
"""What llama-server leaves free on a GPU (`--fit`: 1024 MiB)."""
UBATCH: Final = 512
_CELLS: Final = 256
_FLOAT_BYTES: Final = 4

Verdict = Literal["alone", "alongside", "offload", "too_large", "unknown"]
Source = Literal["measured", "estimated"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model took when it was loaded; `vram_bytes` is `None` where nobody told."""

    size_bytes: int
    vram_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """The memory of a model at one context.

    Attributes:
        kv_bytes: Keys, values and states.
        compute_bytes: Buffers of one step.
        overhead_bytes: The process itself.
        low_bytes: The least that is likely.
        high_bytes: The most that is likely.
        reason: What the estimate rests on, and what is doubtful about it.
    """

    num_ctx: int
    needed_bytes: int
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    overhead_bytes: int
    low_bytes: int
    high_bytes: int
    source: Source
    confidence: Literal["high", "low"]
    reason: str


def padded(tokens: int) -> int:
    """Return the cells llama.cpp makes for a context: the next multiple of 256."""
    return -(-tokens // _CELLS) * _CELLS


def kv_bytes(
    facts: ModelFacts,
    num_ctx: int,
    *,
    parallel: int = 1,
    kv_type: str = "f16",
    ubatch: int = UBATCH,
    most: bool = False,
) -> int:
    """Return the bytes that the layers keep for `parallel` requests of `num_ctx` tokens.

    A layer with a window keeps the window and one step, never more than the context.

    Args:
        kv_type: Type of the elements; an unknown one counts as f16.
        most: Whether to count as an engine that keeps more.
    """
    size = KV_BYTES.get(kv_type, KV_BYTES["f16"])
    total = Fraction(0)
    for layer in facts.layers:
        tokens = num_ctx if layer.window is None else min(num_ctx, layer.window + ubatch)
        elements = layer.most_elements if most else layer.elements
        total += padded(tokens) * elements * size + layer.state_bytes
    return int(total * max(1, parallel))


def compute_bytes(facts: ModelFacts, num_ctx: int, *, ubatch: int = UBATCH) -> int:
    """Return the bytes of the buffers of one step.

    For a model that writes, the scores of every token of the vocabulary for a whole step are by
    far the largest; for one that reads a whole text, its widest layer is.
    """
    width = facts.embedding_length
    if facts.encoder:
        return _FLOAT_BYTES * num_ctx * (4 * width + facts.feed_forward_length)
    # Without the vocabulary the largest ones in use stand in for it.
    vocabulary = facts.vocabulary or 256_000
    return _FLOAT_BYTES * ubatch * (vocabulary + width)


def context_of(facts: ModelFacts | None, num_ctx: int) -> int:
    """Return the context an engine makes of a wish: never more than the model was made for."""
    longest = facts.context_length if facts is not None else None
    return min(num_ctx, longest) if longest and longest > 0 else num_ctx


def estimate(
    facts: ModelFacts,
    num_ctx: int,
    *,
    parallel: int = 1,
    kv_type: str = "f16",
    ubatch: int = UBATCH,
    overhead_bytes: int = GPU_PROCESS_BYTES,
) -> Estimate:
    """Estimate the memory of a model that has not been loaded yet.

    The low end has half the buffers and no overhead; the high end has 5 % on top, what engines of
    another layout keep, and the scores of attention of an engine without flash attention.
    """
    num_ctx = context_of(facts, num_ctx)
    kept = kv_bytes(facts, num_ctx, parallel=parallel, kv_type=kv_type, ubatch=ubatch)
    most = kv_bytes(facts, num_ctx, parallel=parallel, kv_type=kv_type, ubatch=ubatch, most=True)
    buffers = compute_bytes(facts, num_ctx, ubatch=ubatch)
    step = num_ctx if facts.encoder else ubatch
    scores = _FLOAT_BYTES * facts.heads * padded(num_ctx) * min(step, ubatch)
    needed = facts.weights_bytes + kept + buffers + overhead_bytes
    doubts = "; ".join(facts.doubts)
    return Estimate(
        num_ctx=num_ctx,
        needed_bytes=needed,
        weights_bytes=facts.weights_bytes,
        kv_bytes=kept,
        compute_bytes=buffers,
        overhead_bytes=overhead_bytes,
        low_bytes=facts.weights_bytes + kept + buffers // 2,
        high_bytes=int(needed * 1.05) + (most - kept) + scores,
        source="estimated",
        confidence="low" if doubts else "high",
        reason=f"estimated from the metadata of {facts.architecture}"
        + (f"; {doubts}" if doubts else ""),
    )


def estimate_by_size(
    weights_bytes: int, num_ctx: int, *, overhead_bytes: int, why: str
) -> Estimate:
    """Estimate the memory of a model of which only the size of its files is known."""
    buffers = weights_bytes // 5
    return Estimate(
        num_ctx=num_ctx,
        needed_bytes=weights_bytes + buffers + overhead_bytes,
        weights_bytes=weights_bytes,
        kv_bytes=0,
        compute_bytes=buffers,
        overhead_bytes=overhead_bytes,
        low_bytes=weights_bytes,
        high_bytes=2 * weights_bytes + overhead_bytes,
        source="estimated",
        confidence="low",
        reason=f"a fifth more than its files, because {why}",
    )


def with_measured(found: Estimate, measured: Measured, *, overhead_bytes: int) -> Estimate:
    """Put a measured figure in the place of the estimate; its parts stay estimates.

    Args:
        overhead_bytes: What the measurement leaves out.
    """
    needed = measured.size_bytes + overhead_bytes
    return replace(
        found,
        needed_bytes=needed,
        low_bytes=needed,
        high_bytes=needed,
        source="measured",
        confidence="high",
        reason=f"measured when it was loaded with a context of {found.num_ctx}",
    )


def from_neighbour(found: Estimate, near: Estimate, measured: Estimate) -> Estimate:
    """Correct an estimate by what the model took with another context.

    What the metadata does not tell is the same with both, so the measurement moves the estimate as
    far as it was off there.

    Args:
        near: The estimate for the other context.
        measured: The measurement with it.
    """
    needed = found.needed_bytes + measured.needed_bytes - near.needed_bytes
    needed = max(needed, found.kv_bytes)
    return replace(
        found,
        needed_bytes=needed,
        low_bytes=min(found.low_bytes, needed),
        high_bytes=max(found.high_bytes, needed),
        reason=f"estimated from what it took with a context of {measured.num_ctx}",
    )


# ---- Ollama's own rule (server/sched.go, llm/llama_server.go of 0.33)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What Ollama expects of a load beside others, and up to what it lets it happen."""

    predicted_bytes: int
    threshold_bytes: int
    batch: int

    @property
    def fits(self) -> bool:
        """Whether Ollama loads it without evicting anybody."""
        return self.predicted_bytes <= self.threshold_bytes


def ollama_predicted(facts: ModelFacts, num_ctx: int) -> int:
    """Return what Ollama predicts: files, and keys and values as if every layer were alike."""
    tokens = context_of(facts, num_ctx)
    head = facts.embedding_length // facts.heads
    return facts.weights_bytes + 2 * facts.blocks * facts.least_kv_heads * head * tokens * 2


_BATCHES: Final = ((2048, 2 * GIB, 60), (1024, 768 * MIB, 75))
"""Batch, what Ollama adds for it, and the percent of the free memory below which it is chosen."""


def ollama_rule(
    facts: ModelFacts, num_ctx: int, *, free_bytes: Sequence[int], writes: bool = True
) -> Prediction:
    """Return Ollama's decision about a load while other models are loaded.

    It takes one GPU when the prediction is within 80 % of its free memory, else all of them; it
    evicts when the prediction and what it adds for its batch are above 80 % of what is free there.

    Args:
        free_bytes: Free memory of each GPU.
        writes: Whether the model makes text; others get no larger batch.
    """
    predicted = ollama_predicted(facts, num_ctx)
    single = [free for free in free_bytes if predicted <= free * 80 // 100]
    available = max(single) if single else sum(free_bytes)
    threshold = available * 80 // 100
    tokens = context_of(facts, num_ctx)
    batch, added = UBATCH, 0
    if writes and not facts.encoder:
        largest = 2048 if tokens > 32768 else 1024 if tokens > 4096 else UBATCH
        for size, surcharge, percent in _BATCHES:
            roomy = predicted <= available * percent // 100
            if size <= largest and roomy and surcharge <= threshold - predicted:
                batch, added = size, surcharge
                break
    return Prediction(predicted + added, threshold, batch)


def ollama_context(total_bytes: int | None) -> int:
    """Return the context Ollama takes when nobody says one, by the memory of its GPUs."""
    if total_bytes is not None and total_bytes >= 47 * GIB:
        return 262_144
    return 32_768 if total_bytes is not None and total_bytes >= 23 * GIB else 4096


# ---- does it fit


@dataclass(frozen=True, slots=True)
class Room:
    """The memory a backend has for its models.

    Attributes:
        on_gpu: Whether what does not fit could run on the CPU.
        total_bytes: Memory of its devices.
        free_bytes: Free now.
        held_bytes: Of the rest, what its own models hold and would give back.
        loaded: Their names.
        margin_bytes: What must stay free.
        budget_bytes: What its models may take together, where that is set.
        spill_bytes: Memory of the machine for what is not on the GPU; `None`: not known.
        largest_bytes: Memory of the largest of several GPUs; `None` with one, or when not known.
        reason: Why figures are missing.
    """

    on_gpu: bool = True
    total_bytes: int | None = None
    free_bytes: int | None = None
    held_bytes: int = 0
    loaded: tuple[str, ...] = ()
    margin_bytes: int = GPU_MARGIN_BYTES
    budget_bytes: int | None = None
    spill_bytes: int | None = None
    largest_bytes: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One of the three answers; `fits` is `None` when it cannot be told."""

    fits: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class Offload:
    """Whether a part of the model would run on the CPU, and how large a part (0-1)."""

    will: bool | None
    share: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model fits, with the figures it follows from."""

    verdict: Verdict
    reason: str
    estimate: Estimate | None = None
    room: Room = field(default_factory=Room)
    alone: Part = field(default_factory=lambda: Part(None, "not known"))
    alongside: Part = field(default_factory=lambda: Part(None, "not known"))
    offload: Offload = field(default_factory=lambda: Offload(None, None, "not known"))

    @property
    def needed_bytes(self) -> int | None:
        """What it needs; `None` when not even that is known."""
        return None if self.estimate is None else self.estimate.needed_bytes

    def row(self) -> dict[str, Any]:
        """Return what a list of models shows."""
        return {
            "verdict": self.verdict,
            "needed_bytes": self.needed_bytes,
            "free_bytes": self.room.free_bytes,
            "budget_bytes": self.room.budget_bytes,
            "reason": self.reason,
            "source": None if self.estimate is None else self.estimate.source,
        }

    def as_json(self) -> dict[str, Any]:
        """Return everything."""
        found = self.estimate
        names = (
            *("num_ctx", "weights_bytes", "kv_bytes", "compute_bytes", "overhead_bytes"),
            *("low_bytes", "high_bytes", "confidence"),
        )
        return {
            **self.row(),
            **{name: None if found is None else getattr(found, name) for name in names},
            "total_bytes": self.room.total_bytes,
            "estimate_reason": None if found is None else found.reason,
            "alone": {"fits": self.alone.fits, "reason": self.alone.reason},
            "alongside": {"fits": self.alongside.fits, "reason": self.alongside.reason},
            "offload": {
                "will": self.offload.will,
                "share": self.offload.share,
                "reason": self.offload.reason,
            },
        }


def unknown(reason: str, *, found: Estimate | None = None, room: Room | None = None) -> Fit:
    """Return the answer when something that it needs is not known."""
    parts = Part(None, reason)
    return Fit("unknown", reason, found, room or Room(), parts, parts, Offload(None, None, reason))


def judge(found: Estimate, room: Room, prediction: Prediction | None = None) -> Fit:
    """Say whether a model fits alone, fits beside what is loaded, and will be split.

    Args:
        prediction: Ollama's own rule, for a backend that follows it.
    """
    free = room.free_bytes
    if free is None:
        return unknown(room.reason or "free memory is not known", found=found, room=room)
    needed = found.needed_bytes
    capacity = free + room.held_bytes - room.margin_bytes
    beside = free - room.margin_bytes
    if room.budget_bytes is not None:
        capacity = min(capacity, room.budget_bytes)
        beside = min(beside, room.budget_bytes - room.held_bytes)
    capacity, beside = max(0, capacity), max(0, beside)
    alone = Part(needed <= capacity, _compared(needed, capacity, "with no other model loaded"))
    alongside = _alongside(needed, beside, alone, room, prediction)
    offload = _offload(needed, capacity, beside, alone, alongside, room)
    verdict: Verdict
    if alongside.fits and not offload.will:
        verdict, reason = "alongside", alongside.reason
    elif alone.fits:
        verdict, reason = "alone", offload.reason if offload.will else alongside.reason
    elif offload.will and (room.spill_bytes is None or needed - capacity <= room.spill_bytes):
        verdict, reason = "offload", offload.reason
    else:
        verdict, reason = "too_large", alone.reason
    if room.largest_bytes is not None and needed + GPU_MARGIN_BYTES > room.largest_bytes:
        largest = format_bytes(room.largest_bytes)
        reason += f"; it is larger than any one GPU ({largest} at most): it takes several"
    return Fit(verdict, reason, found, room, alone, alongside, offload)


def _alongside(
    needed: int, beside: int, alone: Part, room: Room, prediction: Prediction | None
) -> Part:
    if not room.loaded:
        return alone
    names = ", ".join(room.loaded)
    if prediction is None:
        return Part(needed <= beside, _compared(needed, beside, f"beside {names}"))
    return Part(
        prediction.fits,
        f"Ollama predicts {format_bytes(prediction.predicted_bytes)} and "
        f"{'keeps' if prediction.fits else 'would evict'} {names}: it loads up to "
        f"{format_bytes(prediction.threshold_bytes)}, 80 % of what is free",
    )


def _offload(
    needed: int, capacity: int, beside: int, alone: Part, alongside: Part, room: Room
) -> Offload:
    if not room.on_gpu:
        return Offload(False, 0.0, "it runs in the memory of the machine")
    if not alone.fits:
        share = (needed - capacity) / needed
        return Offload(True, share, f"{alone.reason}: {share:.0%} would run on the CPU")
    if room.loaded and alongside.fits and needed > beside:
        share = (needed - beside) / needed
        text = _compared(needed, beside, f"beside {', '.join(room.loaded)}")
        return Offload(True, share, f"nobody would be evicted, and {text}: unload one first")
    return Offload(False, 0.0, "all of it fits on the GPU")


def _compared(needed: int, available: int, when: str) -> str:
    return f"it needs {format_bytes(needed)} and {format_bytes(available)} are there {when}"
