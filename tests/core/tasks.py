"""Tasks and outcomes with as little said as a test needs."""

from swarmcli.core.events import Failure
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import Dependency, Task


def task(name, *needs, optional=False, **more):
    """A task that needs tasks by id; a `Dependency` says more."""
    depends_on = tuple(
        need if isinstance(need, Dependency) else Dependency(name=need, agents=(need,))
        for need in needs
    )
    values = {"prompt": f"do {name}", "group": name.partition("[")[0], **more}
    return Task(id=name, depends_on=depends_on, optional=optional, **values)


def every(name, count, min_done=1):
    """The dependency on a whole fan-out."""
    agents = tuple(f"{name}[{i}]" for i in range(count))
    return Dependency(name=name, agents=agents, fan_out=True, min_done=min_done if agents else 0)


def done(name, output="", **more):
    """An agent that succeeded."""
    own = more.pop("task", None) or task(name)
    return Outcome(task=own, state="done", output=output or f"output of {name}", **more)


def failed(name, kind="server", message="it broke", **more):
    """An agent that failed."""
    own = more.pop("task", None) or task(name)
    failure = Failure(kind=kind, message=message)
    return Outcome(task=own, state="failed", failure=failure, **more)


def skipped(name, because="t1 failed", **more):
    """An agent that never started."""
    own = more.pop("task", None) or task(name)
    failure = Failure(kind="uncalled", message=because)
    return Outcome(task=own, state="skipped", failure=failure, **more)
