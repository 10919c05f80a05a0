"""Results JSON, intervals, and how command lines report mistakes."""

import json

import pytest

import dynaguide
from dynaguide import UserError, cli
from dynaguide.results import EpisodeResult, behavior_rates, rate, write_results

PUBLISHED_KEYS = {"Return", "Horizon", "Success_Rate", "Exception_Rate", "time", "Num_Success", "Time_Episode", "Num_Episode"}


def some() -> list[EpisodeResult]:
    return [EpisodeResult(seed, 10 * seed, 0.5, 1.0, seed % 2 == 0, ("left",) if seed % 2 == 0 else ()) for seed in (3, 1, 2, 4)]


def test_every_public_name_is_found_where_it_is_said_to_be():
    assert all(getattr(dynaguide, name) is not None for name in dynaguide.__all__)
    assert sorted(dynaguide.__all__) == sorted(dynaguide._MODULE)
    with pytest.raises(AttributeError, match="no attribute 'descend'"):
        _ = dynaguide.descend


def test_the_published_keys_and_an_entry_an_episode(tmp_path):
    write_results(tmp_path / "r.json", some(), config={"scale": 1.5}, seed=1)
    stored = json.loads((tmp_path / "r.json").read_text())
    assert stored.keys() >= PUBLISHED_KEYS | {"config", "versions", "seed", "episodes"}
    assert stored["Num_Episode"] == 4
    assert stored["Success_Rate"] == 0.5
    assert stored["Horizon"] == 25
    assert [episode["seed"] for episode in stored["episodes"]] == [1, 2, 3, 4]
    assert stored["episodes"][1]["behaviors"] == ["left"]
    assert stored["behaviors"]["left"]["count"] == 2


def test_wilsons_interval():
    """Against the values of Newcombe (1998), table I: 81 of 263 and 0 of 20."""
    one, none = rate(81, 263), rate(0, 20)
    assert (round(one.low, 4), round(one.high, 4)) == (0.2553, 0.3662)
    assert (round(none.low, 4), round(none.high, 4)) == (0.0, 0.1611)
    assert (rate(0, 0).low, rate(0, 0).high) == (0.0, 1.0)


def test_an_episode_without_behaviour_counts_as_none():
    assert {name: value.count for name, value in behavior_rates(some()).items()} == {"left": 2, "none": 2}


def run_with(action):
    cli.run(action, cli.parser("What it does.", example="python x.py"), [])


def test_a_users_mistake_is_one_line_and_status_2(capsys):
    def mistake(args):
        raise UserError("the file\nis gone")

    with pytest.raises(SystemExit) as stopped:
        run_with(mistake)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: the file is gone\n"


def test_debug_shows_the_traceback():
    def mistake(args):
        raise UserError("gone")

    with pytest.raises(UserError):
        cli.run(mistake, cli.parser("What it does.", example="python x.py"), ["--debug"])


def test_ctrl_c_is_one_line(capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        run_with(interrupted)
    assert stopped.value.code == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_error_with_a_device_that_is_not_there():
    with pytest.raises(UserError, match="no such device here .this machine has: cpu"):
        cli.device("cuda:7")
    with pytest.raises(UserError, match="no such device"):
        cli.device("gpu")


def test_auto_finds_a_device():
    assert cli.device("auto").type in ("cpu", "cuda", "mps")
