"""The pages under docs tell the truth: their code runs, on a small run and for few steps."""

import re
from pathlib import Path

import pytest

POLICIES = (Path(__file__).resolve().parents[1] / "docs" / "policies.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", POLICIES, re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds runs/reacher, untrained."""
    from robovae.dynamics import FilterDynamics
    from robovae.filter import save_dynamics
    from robovae.run.directory import RunFacts, build_model, save_model
    from robovae.vae import ModelConfig
    from robovae_envs.camera import RenderSpec, make

    camera = make("Reacher-v5", RenderSpec.fast("Reacher-v5"))
    camera.reset(seed=0)
    facts = RunFacts((64, 64, 3), 2, "Reacher-v5", camera.render_spec.to_dict())
    camera.close()
    where = tmp_path_factory.mktemp("docs")
    model = build_model(ModelConfig.tiny(), facts)
    save_model(where / "runs" / "reacher", model)
    dynamics = FilterDynamics.of(model.dynamics)
    save_dynamics(where / "runs" / "reacher", dynamics)
    return where


def run(snippets: list[str], space: dict) -> dict:
    for snippet in snippets:
        shorter, count = re.subn(r"STEPS = [\d_]+", "STEPS = 110", snippet)
        assert count == ("STEPS =" in snippet)
        exec(compile(shorter, "policies.md", "exec"), space)
    return space


def test_the_page_shows_three_ways() -> None:
    for word, snippet in zip(("SAC(", "Adam(", "GymWrapper("), SNIPPETS, strict=True):
        assert word in snippet


@pytest.mark.gl
def test_the_code_about_policies_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    space = run(SNIPPETS[:2], {})
    width = 2 * 8 + 32 + 4 * 2  # of ModelConfig.tiny(): latents, their pace, memory, and four actions of two
    assert space["agent"].replay_buffer.obs_shape == (width,)
    assert space["buffer"]["seen"].shape == (110, width)
    assert space["buffer"]["seen"].any(1).all()
    space["env"].close()
    space["venv"].close()


@pytest.mark.gl
@pytest.mark.filterwarnings("default")  # those of tensordict
def test_the_code_about_torchrl_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchrl", exc_type=ImportError)
    monkeypatch.chdir(folder)
    space = run(SNIPPETS, {})
    assert space["rollout"]["observation"].shape == (20, 2 * 8 * 3)
    space["beliefs"].close()
