"""What a bare `swarm` says: one sentence, examples, and whether a model is ready."""

TEXT = """\
swarm runs many LLM agents on one job and merges what they find.

  swarm run quickstart                           a first run, on whatever model is here
  swarm solve "compare sqlite and duckdb"        plan, fan out, merge
  cut -f2 tickets.tsv | swarm map "Label: {}"    one agent per line
  swarm --help                                   everything

"""


def welcome() -> str:
    """The text, with the state line."""
    from swarmcli.app.models import choose_default
    from swarmcli.app.workspace import open_workspace

    found = choose_default(open_workspace(quiet=True).surroundings())
    if found is None:
        return (
            TEXT
            + "no model yet: set a key (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...) or run: swarm doctor"
        )
    return TEXT + f"model: {found[0].id} ({found[1]})"
