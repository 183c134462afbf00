"""What decides a training run, apart from its data."""

from dataclasses import dataclass, field
from typing import Literal

from robovae.errors import RobovaeError
from robovae.vae import ModelConfig


class TrainError(RobovaeError):
    """Training cannot start or go on."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `robovae train`.

    Two phases, both on one bound: `local` fits the grid to the pixels of single frames, under N(0, I); then
    `global` puts p(grid | z) and the temporal prior of z in the place of N(0, I), on windows of sequences.

    Raises:
        TrainError: a value is out of range.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    """Sizes of the networks."""
    seed: int = 0
    """Decides the first weights, every batch and every draw of noise."""
    validation: float = 0.05
    """Share of the training episodes that is held out for early stopping and the progress figures."""
    local_steps: int = 2500
    """Updates of the local phase."""
    local_batch: int = 64
    """Frames in one update of the local phase."""
    local_lr: float = 8e-3
    """Peak learning rate of the local phase; linear warm-up, then cosine."""
    global_steps: int = 3000
    """Updates of the global phase."""
    global_batch: int = 32
    """Windows in one update of the global phase."""
    window: int = 16
    """Consecutive frames in a window."""
    global_lr: float = 8e-3
    """Peak learning rate of the global phase."""
    beta: float = 1.0
    """Weight of the local KL in the local phase; 1 is the bound itself."""
    global_beta: float = 1.0
    """Weight of the global KL in the global phase; 1 is the bound itself."""
    free_bits: float = 0.0
    """Nats a latent dimension (and cell) that cost nothing."""
    kl_warmup: float = 0.2
    """Share of each phase over which the weight of its KL rises from 0."""
    foresight: float = 0.3
    """Weight of the global phase's demand that the next mean can be told from those before; 0 is the bound
    alone. More makes latents easier to predict, but drops what a single frame shows dimly."""
    reward: float = 2.0
    """Weight of the global phase's demand that the latents before and after a step tell its reward; 1 is the
    bound of frames and rewards together, 0 leaves rewards out. More shows a policy more of what it is paid
    for."""
    patience: int = 6
    """Evaluations without a better held-out ELBO after which a phase stops; its best weights are kept."""
    evaluate_every: int = 250
    """Updates between two evaluations on held-out episodes."""
    checkpoint_seconds: float = 30.0
    """Time between two checkpoints."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of convolutions and matrix products; auto takes bf16 where the processor multiplies matrices in it."""
    compile: bool = False
    """torch.compile: pays on CUDA; on 2 cores it gained nothing over bf16 channels-last."""
    device: str = "auto"
    """"cpu", "cuda", or auto."""
    threads: int = 0
    """Threads of torch on a CPU; 0 takes every core."""
    allow_collapse: bool = False
    """Keep a model whose latents carry nothing, instead of failing."""
    skip_damaged: bool = False
    """Train without damaged episodes, naming them, instead of refusing."""

    def __post_init__(self) -> None:
        for name in (
            "local_steps",
            "local_batch",
            "global_steps",
            "global_batch",
            "evaluate_every",
            "patience",
        ):
            _check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("local_lr", "global_lr", "checkpoint_seconds"):
            _check(name, getattr(self, name), getattr(self, name) > 0, "more than 0")
        for name in ("seed", "beta", "global_beta", "foresight", "reward", "free_bits", "threads"):
            _check(name, getattr(self, name), getattr(self, name) >= 0, "at least 0")
        _check("kl_warmup", self.kl_warmup, 0 <= self.kl_warmup <= 1, "from 0 to 1")
        _check("validation", self.validation, 0 < self.validation < 1, "between 0 and 1")
        _check("window", self.window, self.window >= 3, "at least 3")

    @classmethod
    def tiny(cls) -> "TrainConfig":
        """A run for tests: seconds, not minutes."""
        return cls(
            model=ModelConfig.tiny(),
            local_steps=60,
            local_batch=16,
            global_steps=60,
            global_batch=8,
            window=8,
            evaluate_every=30,
            validation=0.2,
            precision="fp32",
            threads=1,
        )


def _check(name: str, value: object, good: bool, expected: str) -> None:
    if not good:
        raise TrainError(f"TrainConfig.{name}: expected {expected}, received {value!r}")
