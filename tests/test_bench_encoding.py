"""The encoding benchmark: both encoders, both engines, honest sizes, one thread."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from robovae.bench import encoding
from robovae.bench.encoding import EncodingConfig, WorldModelsEncoder, run
from robovae.errors import RobovaeError
from robovae.run.directory import RunError, RunFacts, build_model, save_model
from robovae.vae import ModelConfig

QUICK = EncodingConfig(rounds=2, calls=3)


@pytest.fixture
def with_onnx() -> None:
    for name in encoding.PACKAGES:
        pytest.importorskip(name)


@pytest.mark.usefixtures("with_onnx")
def test_every_encoder_is_timed_in_every_engine() -> None:
    told: list[str] = []
    found = run(ModelConfig.tiny(), QUICK, told.append)
    json.dumps(found, allow_nan=False)
    ways = [(row["encoder"], row["engine"]) for row in found["rows"]]
    names = ("robovae", "World Models", "World Models unpadded")
    assert ways == [(name, engine) for name in names for engine in ("torch", "onnxruntime")]
    assert all(0 < row["median_ms"] <= row["p99_ms"] for row in found["rows"])
    medians = {way: row["median_ms"] for way, row in zip(ways, found["rows"], strict=True)}
    ratio = medians["robovae", "onnxruntime"] / medians["World Models", "onnxruntime"]
    assert found["ratio"] == pytest.approx(ratio, rel=0.01)
    assert told[0] == "exporting robovae"


@pytest.mark.usefixtures("with_onnx")
def test_a_run_is_timed_at_its_own_size_and_threads_are_put_back(tmp_path: Path) -> None:
    model = build_model(ModelConfig.tiny(), RunFacts((32, 48, 3), 2, "Toy-v0", None))
    save_model(tmp_path / "run", model)
    before = torch.get_num_threads()
    found = run(tmp_path / "run", QUICK)
    assert found["frame"] == [32, 48, 3]
    assert {row["encoder"] for row in found["rows"]} == {"robovae", "World Models"}, (
        "32 is too small unpadded"
    )
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("padding", "expected"), [(1, 27.0), (0, 14.8)])
def test_world_models_has_the_multiply_adds_that_are_claimed(padding: int, expected: float) -> None:
    encoder = WorldModelsEncoder((64, 64), padding).eval()
    frame = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    mu, sigma = encoder(frame)
    assert mu.shape == sigma.shape == (1, 32)
    assert (sigma > 0).all()
    assert encoding._million_macs(encoder, frame.numpy()) == pytest.approx(expected, abs=0.05)


def test_without_onnx_runtime_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RobovaeError, match=r"found none; pip install 'robovae\[export\]'") as caught:
        run(ModelConfig.tiny(), QUICK)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("with_onnx")
def test_a_missing_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected a trained run"):
        run(tmp_path / "nowhere", QUICK)


@pytest.mark.parametrize("config", [{"rounds": 0}, {"calls": 0}])
def test_measuring_nothing_is_refused(config: dict[str, int]) -> None:
    with pytest.raises(RobovaeError, match="expected at least one round and one call"):
        EncodingConfig(**config)  # type: ignore[arg-type]


@pytest.mark.usefixtures("with_onnx")
def test_an_export_that_gives_other_numbers_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Restless(encoding.OurEncoder):
        calls = 0.0

        def forward(self, frame: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
            self.calls += 1.0
            mu, *rest = super().forward(frame)
            return (mu + self.calls, *rest)

    monkeypatch.setattr(encoding, "OurEncoder", Restless)
    with pytest.raises(RobovaeError, match="robovae: ONNX Runtime gives other beliefs than torch"):
        run(ModelConfig.tiny(), QUICK)
