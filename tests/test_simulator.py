"""Loading a model: what MuJoCo has to say goes where Python's warnings go, and into no file."""

import pytest

from robovae_envs.simulator import driven_joints, loading, mujoco

OLD = '<mujoco><compiler settotalmass="1"/><worldbody><body><geom size="1"/></body></worldbody></mujoco>'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_that_a_model_is_old_is_not_told_and_leaves_no_file(elsewhere, capfd):
    with loading():
        mujoco.MjModel.from_xml_string(OLD)
    assert capfd.readouterr().err == ""
    assert list(elsewhere.iterdir()) == []


def test_mujoco_itself_tells_it_in_a_file(elsewhere):
    mujoco.MjModel.from_xml_string(OLD)
    assert [path.name for path in elsewhere.iterdir()] == ["MUJOCO_LOG.TXT"]


def test_other_warnings_are_told_once_it_is_loaded(elsewhere):
    with pytest.warns(RuntimeWarning, match="the robot is on fire"), loading():
        mujoco.get_mju_user_warning()("the robot is on fire")
    assert list(elsewhere.iterdir()) == []


def test_the_users_own_handler_comes_back_after_a_failure():
    heard: list[str] = []
    before, own = mujoco.get_mju_user_warning(), heard.append
    mujoco.set_mju_user_warning(own)
    try:
        with pytest.raises(ValueError, match="nonsense"), loading():
            mujoco.MjModel.from_xml_string("<mujoco><nonsense/></mujoco>")
        mujoco.MjModel.from_xml_string(OLD)
    finally:
        mujoco.set_mju_user_warning(before)
    assert len(heard) == 1


def test_only_what_drives_a_joint_tells_of_joints():
    model = mujoco.MjModel.from_xml_string(
        """
        <mujoco>
          <worldbody>
            <body><freejoint/><geom size="1"/><site name="rotor"/></body>
            <body><joint name="a" type="hinge"/><joint name="b" type="slide"/><geom size="1"/></body>
          </worldbody>
          <actuator><motor site="rotor" gear="0 0 1 0 0 0"/><motor site="rotor"/><motor joint="b"/></actuator>
        </mujoco>
        """
    )
    assert driven_joints(model) == [2]
