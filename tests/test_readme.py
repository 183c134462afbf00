"""The README tells the truth: its tree is the files', its code runs, its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tree() -> dict[str, str]:
    """Path -> what the README's annotated tree says of it."""
    block = re.search(r"```text\n(.*?)```", README, re.S)
    assert block, "the README has no annotated tree"
    found, folders = {}, []
    for line in block[1].splitlines():
        indent = len(line) - len(line.lstrip())
        name, _, note = line.strip().partition(" ")
        folders = [folder for folder in folders if folder[0] < indent]
        path = "".join(folder[1] for folder in folders) + name
        if name.endswith("/"):
            folders.append((indent, name))
        found[path] = note.strip()
    return found


def test_the_tree_is_what_lies_there() -> None:
    said = tree()
    missing = [path for path in said if not (ROOT / path).exists()]
    assert not missing
    assert all(said.values()), "every line of the tree tells what the thing is for"
    modules = {
        f"{path.relative_to(ROOT)}{'/' if path.is_dir() else ''}"
        for folder in ("robovae", "envs/robovae_envs")
        for path in (ROOT / folder).iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    silent = sorted(m for m in modules if m not in said and not Path(m).name.startswith("__"))
    assert not silent, "modules that the README's tree leaves out"


def test_pictures_and_links_are_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_exist() -> None:
    commands = set(re.findall(r"^robovae ((?:bench |data )?\w+)", README, re.M))
    assert {"collect", "train"} <= commands
    for command in sorted(commands):
        done = subprocess.run(
            [sys.executable, "-m", "robovae", *command.split(), "--help"],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 0, f"robovae {command} --help: {done.stderr}"


@pytest.mark.gl
def test_the_python_in_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gymnasium.spaces import Box

    from robovae.dynamics import FilterDynamics
    from robovae.filter import save_dynamics
    from robovae.monitor import MonitorConfig, calibrate
    from robovae.policy.network import Actor
    from robovae.policy.saving import fingerprints, policy_dir, save_policy
    from robovae.run.directory import RunFacts, build_model, save_model
    from robovae.run.files import SCORING, run_digest
    from robovae.uncertainty import SCORES, TEMPORAL, Uncertainty
    from robovae.uncertainty.model import save_uncertainty
    from robovae.vae import ModelConfig
    from robovae_envs.camera import RenderSpec, make

    camera = make("Reacher-v5", RenderSpec.fast("Reacher-v5"))
    camera.reset(seed=0)
    facts = RunFacts((64, 64, 3), 2, "Reacher-v5", camera.render_spec.to_dict())
    camera.close()
    run = tmp_path / "runs" / "reacher"
    model = build_model(ModelConfig(), facts)
    save_model(run, model)
    save_uncertainty(run, Uncertainty(model.vae))
    save_dynamics(run, FilterDynamics.of(model.dynamics))
    width = 2 * model.vae.config.latent_dim + model.vae.config.dynamics_hidden + 4 * model.facts.action_dim
    layer = (np.zeros((2, width), np.float32), np.zeros(2, np.float32))
    actor = Actor((layer,), "relu", "squashed", Box(-1.0, 1.0, (2,), np.float32))
    record = {"observation": "belief", "features": "filtered", "stack": 1, **fingerprints(run, "filtered")}
    save_policy(policy_dir(run, ""), actor, record)
    rng = np.random.default_rng(0)
    episodes = [{name: rng.normal(size=20) for name in (*SCORES, *TEMPORAL)} for _ in range(40)]
    rates = MonitorConfig(alpha=0.1, alpha_gate=0.1, tail=0.1)
    calibrate(episodes[:20], episodes[20:], rates, run_digest(run, SCORING)).save(run / "monitor.json")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(snippets) >= 2
    space: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), space)
    mu, belief = space["mu"], space["belief"]
    promised = re.search(r"print\(belief\)\s+# (Belief\(.*\))", README)
    assert promised
    assert promised[1] == repr(belief)
    assert mu.shape == (2 * ModelConfig().latent_dim,)  # type: ignore[attr-defined]
    assert space["verdict"].score is not None  # type: ignore[attr-defined]
    assert space["action"].shape == (2,)  # type: ignore[attr-defined]
    space["env"].close()  # type: ignore[attr-defined]
