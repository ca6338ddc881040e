"""Where defaults come from, who wins, and what a cloned repository may not do."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.adapters.dotenv import load_dotenv, parse_dotenv
from swarmcli.adapters.settings import VARIABLES, Settings, load_settings
from swarmcli.errors import UsageError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    (folder / "src" / "deep").mkdir(parents=True)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    return folder


def load(project: Path, config: Path, **env: str) -> Settings:
    return load_settings(env, project / "src" / "deep", config)


def test_nothing_set(project: Path, config: Path) -> None:
    """Without files and variables every value is open, and nothing was read."""
    settings = load(project, config)
    assert settings.merged.model is None
    assert settings.sources == ()
    assert settings.dotenv.path is None


def test_environment_over_project_over_user(project: Path, config: Path) -> None:
    """Each value comes from the highest place that says something, and tells which one it was."""
    (config / "config.toml").write_text('model = "a/user"\njobs = 1\nmax_cost = 1\n')
    (project / "swarm.toml").write_text('model = "a/project"\njobs = 2\n')
    settings = load(project, config, SWARM_MODEL="a/env")
    merged = settings.merged
    assert (merged.model.value, merged.jobs.value, merged.max_cost.value) == ("a/env", 2, 1.0)
    assert merged.model.origin == "environment variable SWARM_MODEL"
    assert merged.jobs.origin == f"{project / 'swarm.toml'}: jobs"
    assert merged.max_cost.origin == f"{config / 'config.toml'}: max_cost"
    assert settings.files.model.value == "a/project"
    assert settings.environment.jobs is None
    assert settings.sources == (project / "swarm.toml", config / "config.toml")


def test_every_key_and_every_variable(project: Path, config: Path) -> None:
    """All settings can be set in a file and in the environment, with the same meaning."""
    (project / "swarm.toml").write_text(
        'model = "openai/gpt-5"\njobs = 8\nmax_cost = 2.5\nprogress = "plain"\ncache = "off"\n'
        'recipe_path = ["recipes", "/srv/recipes"]\nascii = true\n'
    )
    env = {
        "SWARM_MODEL": "openai/gpt-5",
        "SWARM_JOBS": "8",
        "SWARM_MAX_COST": "2.50",
        "SWARM_PROGRESS": "plain",
        "SWARM_CACHE": "off",
        "SWARM_RECIPE_PATH": f"{project / 'recipes'}:/srv/recipes",
        "SWARM_ASCII": "1",
    }
    assert set(env) == set(VARIABLES)
    settings = load(project, config, **env)
    for key in VARIABLES.values():
        in_file, in_env = getattr(settings.files, key), getattr(settings.environment, key)
        assert in_file.value == in_env.value
    assert settings.files.recipe_path.value == (project / "recipes", Path("/srv/recipes"))
    assert settings.files.ascii.value is True


def test_an_empty_variable_says_nothing(project: Path, config: Path) -> None:
    """`SWARM_JOBS= swarm run` means: as if it were not set."""
    (project / "swarm.toml").write_text("jobs = 2\n")
    assert load(project, config, SWARM_JOBS="", SWARM_ASCII="").merged.jobs.value == 2


def test_false_is_a_value(project: Path, config: Path) -> None:
    """`SWARM_ASCII=0` beats `ascii = true`: a low value is not an absent one."""
    (project / "swarm.toml").write_text("ascii = true\nmax_cost = 5\n")
    merged = load(project, config, SWARM_ASCII="0", SWARM_MAX_COST="0").merged
    assert merged.ascii.value is False
    assert merged.max_cost.value == 0.0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SWARM_JOBS", "many", "'many' is not a whole number"),
        ("SWARM_JOBS", "0", "'0' is not a whole number of at least 1"),
        ("SWARM_JOBS", "-3", "'-3' is not a whole number"),
        ("SWARM_JOBS", "٣", "'٣' is not a whole number"),
        ("SWARM_MAX_COST", "$2", "'\\$2' is not an amount of US dollars"),
        ("SWARM_MAX_COST", "nan", "'nan' is not an amount"),
        ("SWARM_MAX_COST", "inf", "'inf' is not an amount"),
        ("SWARM_MAX_COST", "-1", "'-1' is not an amount"),
        ("SWARM_PROGRESS", "fancy", "'fancy' is not one of auto, tree, plain, none"),
        ("SWARM_CACHE", "on", "'on' is not one of use, refresh, only, off"),
        ("SWARM_ASCII", "maybe", "'maybe' is not yes or no"),
        ("SWARM_MODEL", "a b", "'a b' is not a model"),
    ],
)
def test_a_wrong_variable_is_named(
    project: Path, config: Path, name: str, value: str, message: str
) -> None:
    """A wrong value in the environment is an error that names variable, value and what is right."""
    with pytest.raises(UsageError, match=f"^environment variable {name}: {message}"):
        load(project, config, **{name: value})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("jobs = true", "jobs: True is not a whole number"),
        ("jobs = 2.5", "jobs: 2.5 is not a whole number"),
        ("jobs = 0", "jobs: 0 is not a whole number"),
        ("max_cost = inf", "max_cost: inf is not an amount"),
        ("max_cost = false", "max_cost: False is not an amount"),
        ("model = 5", "model: 5 is not a model"),
        ('model = ""', "model: '' is not a model"),
        ('model = "a/b\\u001b]52;c;eA\\u0007"', "is not a model"),
        ('model = "a/b\\u202e"', "is not a model"),
        ("cache = false", "cache: False is not one of"),
        ('ascii = "?"', "ascii: '\\?' is not yes or no"),
        ("recipe_path = 1", "recipe_path: 1 is not a list of folders"),
        ("recipe_path = [1]", "recipe_path: \\[1\\] is not a list of folders"),
        ("jobs = ", "is not valid TOML"),
    ],
)
def test_a_wrong_value_in_a_file_is_named(
    project: Path, config: Path, line: str, message: str
) -> None:
    """A wrong value in a config file is an error that names file, key, value and what is right."""
    (config / "config.toml").write_text(line)
    with pytest.raises(UsageError, match=message) as caught:
        load(project, config)
    assert str(config / "config.toml") in caught.value.message


@pytest.mark.parametrize("name", ["swarm.toml", "pyproject.toml", "config.toml"])
def test_an_unknown_key_is_an_error(project: Path, config: Path, name: str) -> None:
    """A typo in one of our files does not pass silently; the nearest key is offered."""
    path = (config if name == "config.toml" else project) / name
    head = "[tool.swarm]\n" if name == "pyproject.toml" else ""
    path.write_text(f"{head}modle = 'a/b'\n")
    with pytest.raises(UsageError, match="unknown key 'modle'") as caught:
        load(project, config)
    assert str(path) in caught.value.message
    assert caught.value.hint == "did you mean 'model'?"


@pytest.mark.parametrize("key", ["api_base", "base_url", "api_key", "api_key_env"])
def test_a_config_cannot_say_where_keys_go(project: Path, config: Path, key: str) -> None:
    """A cloned repository's config cannot redirect calls; the error says why."""
    (project / "swarm.toml").write_text(f'{key} = "https://evil.example"\n')
    with pytest.raises(UsageError, match=f"'{key}' cannot be set here"):
        load(project, config)


def test_the_nearest_project_file_wins(project: Path, config: Path) -> None:
    """The search goes up; `swarm.toml` goes before `pyproject.toml`; strangers' files are passed."""
    (project / "pyproject.toml").write_text("[tool.swarm]\njobs = 1\n")
    (project / "src" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert load(project, config).merged.jobs.value == 1
    assert load(project, config).sources == (project / "pyproject.toml",)
    (project / "swarm.toml").write_text("jobs = 2\n")
    assert load(project, config).merged.jobs.value == 2
    (project / "src" / "swarm.toml").write_text("ascii = true\n")
    assert load(project, config).merged.jobs is None


@pytest.mark.parametrize(
    "text", ["this is = = not toml", "[tool.ruff]\n", "[tool]\nx = 1\n[project]\nname='swarmcli'"]
)
def test_a_pyproject_that_is_not_about_us_is_left_alone(
    project: Path, config: Path, text: str
) -> None:
    """Another tool's broken or unrelated pyproject.toml is no business of ours."""
    (project / "pyproject.toml").write_text(text)
    assert load(project, config).sources == ()


def test_a_broken_pyproject_that_is_about_us_is_an_error(project: Path, config: Path) -> None:
    """Settings that the user meant to give are not dropped because of a syntax error."""
    (project / "pyproject.toml").write_text("[tool.swarm]\njobs = = 1\n")
    with pytest.raises(UsageError, match=r"pyproject\.toml is not valid TOML"):
        load(project, config)
    (project / "pyproject.toml").write_text("[tool]\nswarm = 5\n")
    with pytest.raises(UsageError, match=r"tool\.swarm is not a table"):
        load(project, config)


# --- .env ---


def test_dotenv_fills_what_is_unset(project: Path, config: Path) -> None:
    """Keys, tokens and our own settings are taken; what the shell exported stays, even empty."""
    (project / ".env").write_text(
        "OPENAI_API_KEY=sk-1\nGITHUB_TOKEN=t\nSWARM_JOBS=3\nANTHROPIC_API_KEY=no\nX_API_KEY=no\n"
    )
    settings = load(project, config, ANTHROPIC_API_KEY="mine", X_API_KEY="")
    assert settings.dotenv.values == {
        "OPENAI_API_KEY": "sk-1",
        "GITHUB_TOKEN": "t",
        "SWARM_JOBS": "3",
    }
    assert settings.dotenv.path == project / ".env"
    assert settings.dotenv.notes == ()
    assert settings.environment.jobs.value == 3
    assert settings.environment.jobs.origin == f"{project / '.env'}: SWARM_JOBS"
    assert load(project, config, SWARM_JOBS="9").merged.jobs.value == 9


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_BASE",
        "OPENAI_BASE_URL",
        "HTTPS_PROXY",
        "PATH",
        "LD_PRELOAD",
        "PYTHONPATH",
        "SWARM_HOME",
        "SWARM_TRUST",
        "SWARM_FAILPOINT",
        "LITELLM_MODE",
        "API_KEY_FILE",
        "openai_api_key",
    ],
)
def test_dotenv_sets_nothing_else(project: Path, config: Path, name: str) -> None:
    """What could send a key elsewhere or change the program is ignored, with a note of its name."""
    (project / ".env").write_text(f"{name}=https://evil.example\n")
    dotenv = load(project, config).dotenv
    assert dotenv.values == {}
    assert len(dotenv.notes) == 1
    assert name in dotenv.notes[0]
    assert "evil" not in dotenv.notes[0]


def test_dotenv_stops_at_the_git_root(project: Path, config: Path, tmp_path: Path) -> None:
    """The nearest `.env` counts, none above the repository, and without one only the folder's own."""
    (tmp_path / ".env").write_text("A_TOKEN=above\n")
    assert load(project, config).dotenv.path is None
    (project / ".env").write_text("A_TOKEN=root\n")
    assert load(project, config).dotenv.values == {"A_TOKEN": "root"}
    (project / "src" / ".env").write_text("B_TOKEN=near\n")
    assert load(project, config).dotenv.values == {"B_TOKEN": "near"}
    lonely = tmp_path / "no" / "repository"
    lonely.mkdir(parents=True)
    assert load_dotenv({}, lonely, also=()).path is None
    (lonely / ".env").write_text("C_TOKEN=own\n")
    assert load_dotenv({}, lonely, also=()).values == {"C_TOKEN": "own"}


def test_a_virtualenv_called_dotenv_is_no_file(project: Path, config: Path) -> None:
    """A folder named `.env` is passed over, and the search goes on upwards."""
    (project / "src" / ".env").mkdir()
    (project / ".env").write_text("A_TOKEN=x\n")
    assert load(project, config).dotenv.values == {"A_TOKEN": "x"}


def test_a_dotenv_that_is_no_text_is_a_note(project: Path, config: Path) -> None:
    """A file that is not UTF-8 stops nothing; it is said that it was not read."""
    (project / ".env").write_bytes(b"A_TOKEN=\xff\xfe\n")
    dotenv = load(project, config).dotenv
    assert dotenv.values == {}
    assert dotenv.notes == (f"{project / '.env'} was not read: it is not UTF-8",)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=plain", "plain"),
        ("K = spaced ", "spaced"),
        ("export K=exported", "exported"),
        ("K=", ""),
        ("K=''", ""),
        ("K='single $HOME \\n #x'", "single $HOME \\n #x"),
        ('K="double $HOME \\n \\" \\\\ #x"', 'double $HOME \n " \\ #x'),
        ("K=value # comment", "value"),
        ("K= # comment", ""),
        ("K='v' # comment", "v"),
        ("K=a#b", "a#b"),
        ("K=a=b==", "a=b=="),
        ("K=$HOME/${X}", "$HOME/${X}"),
        ("K=it's", "it's"),
        ("\tK=tab\r", "tab"),
    ],
)
def test_dotenv_lines(line: str, value: str) -> None:
    """Quotes, comments and `export` mean what a shell user expects; nothing is expanded."""
    assert parse_dotenv(line) == ({"K": value}, ())


@pytest.mark.parametrize(
    "line", ["K", "=v", "1K=v", "K-X=v", "K='open", 'K="a" b', "K=\0", "a b=c"]
)
def test_dotenv_lines_that_are_none(line: str) -> None:
    """A line that is no KEY=VALUE is a note with its number, without its text."""
    assert parse_dotenv(f"# first\n\n{line}\nL=1") == (
        {"L": "1"},
        ("line 3 is not KEY=VALUE and was ignored",),
    )


def test_a_byte_order_mark_is_no_part_of_a_name(project: Path, config: Path) -> None:
    """A `.env` saved by a Windows editor works."""
    (project / ".env").write_bytes(b"\xef\xbb\xbfA_TOKEN=x\r\nB_TOKEN=y\r\n")
    assert load(project, config).dotenv.values == {"A_TOKEN": "x", "B_TOKEN": "y"}


@given(st.text(max_size=200))
def test_any_dotenv_can_be_parsed(text: str) -> None:
    """No text makes the parser raise, and every name could stand in an environment."""
    values, _ = parse_dotenv(text)
    assert all(name.isidentifier() and name.isascii() for name in values)
    assert not any("\0" in value for value in values.values())
