"""The Typer commands: parse flags, call `app`, turn a `SwarmError` into text and an exit code."""
