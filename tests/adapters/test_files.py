"""Files that are offered to agents: which are found, and how they are read."""

import pytest

from swarmcli.adapters.files import find_files, read_text
from swarmcli.errors import UsageError


@pytest.fixture
def tree(tmp_path):
    """A small project with things that nobody wants to offer."""
    for name in (
        "a.py",
        "src/b.py",
        "src/deep/c.py",
        "src/d.txt",
        "build/e.py",
        "src/skip.py",
        "node_modules/f.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}")
    (tmp_path / ".gitignore").write_text("build/\nskip.py\n")
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-secret")
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["*.py"], ("a.py",)),
        (["src/**/*.py"], ("src/b.py", "src/deep/c.py")),
        (["**/*.py"], ("a.py", "src/b.py", "src/deep/c.py")),
        (["src"], ("src/b.py", "src/d.txt", "src/deep/c.py")),
        (["src/**/*.py", "!src/deep/*"], ("src/b.py",)),
        (["build/e.py"], ("build/e.py",)),
        (["./a.py", "src/d.txt"], ("a.py", "src/d.txt")),
    ],
)
def test_patterns_find_what_git_would_track(tree, patterns, found):
    """Globs and folders honour every .gitignore; a file that is named is taken all the same."""
    assert find_files(patterns, tree) == found


def test_the_file_with_keys_is_never_found_by_a_pattern(tree):
    """`-f .` and `-f '**'` do not send .env to a provider."""
    for pattern in (".", "**", "*"):
        assert ".env" not in find_files([pattern], tree)


def test_links_that_lead_outside_or_in_circles_are_left_out(tree):
    """A link is followed only inside the folder, and a circle stops nothing."""
    (tree / "out.py").symlink_to("/etc/hostname")
    (tree / "loop.py").symlink_to("loop.py")
    (tree / "again.py").symlink_to("a.py")

    assert find_files(["*.py"], tree) == ("a.py", "again.py")


@pytest.mark.parametrize("pattern", ["/etc/*", "../*.py", "*.nothing", "missing.py"])
def test_patterns_that_cannot_be_meant_are_errors(tree, pattern):
    """Outside, or nothing found: said at once, with the pattern."""
    with pytest.raises(UsageError, match="file"):
        find_files([pattern], tree)


def test_a_folder_that_may_not_be_looked_into_is_passed_over(tree):
    """One closed folder does not spoil the rest."""
    (tree / "closed").mkdir(mode=0o000)
    try:
        assert find_files(["*.py"], tree) == ("a.py",)
    finally:
        (tree / "closed").chmod(0o700)


def test_text_is_read_whatever_its_bytes(tmp_path):
    """Bad UTF-8 is replaced, a byte order mark dropped, and a binary file refused."""
    (tmp_path / "latin").write_bytes(b"\xef\xbb\xbfcaf\xe9")
    (tmp_path / "binary").write_bytes(b"\x7fELF\x00\x01")

    assert read_text(tmp_path / "latin") == "caf\ufffd"
    with pytest.raises(UsageError, match="binary"):
        read_text(tmp_path / "binary")
