"""swarm: one job in, many LLM sub-agents, one merged answer out.

Importing this package is cheap and has no side effects; everything heavy is imported by the code that needs it.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
