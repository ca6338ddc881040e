"""A run as a screen needs it: who takes part, where each one stands, and the sums over all of them. Pure.

Rule: every sum is kept up to date by the change itself, so that drawing never has to walk over all agents. Nothing
here knows events: `fold` turns them into these changes.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator

from swarmcli.core.events import RunEnd
from swarmcli.ui.cells import cap
from swarmcli.ui.checks import Checks
from swarmcli.ui.clean import one_line
from swarmcli.ui.steps import ENDED, LIVE, Agent, Phase, Spend, State, Step
from swarmcli.ui.traffic import Traffic

MAX_SINGLE_STEPS = 6
"""A fixed graph with more single tasks than this shows them under one head, as a planner's plan does."""
ETA_WINDOW_S = 30.0
MIN_ENDS = 10

LOCAL_PREFIXES = ("embedded/", "ollama/", "ollama_chat/", "lm_studio/", "llamafile/")
"""Models that run on the user's own machine: they cost no money, so an absent price is not an unknown one."""


class RunState:
    """What is known of a run; agents and steps that nobody has heard of yet are made on the way."""

    def __init__(self) -> None:
        self.run = ""
        self.recipe = ""
        self.mode = ""
        self.models: tuple[str, ...] = ()
        self.max_cost_usd: float | None = None
        self.resumed = False
        self.agents: dict[str, Agent] = {}
        self.counts: Counter[State] = Counter()
        self.spend = Spend()
        self.traffic = Traffic()
        self.checks = Checks()
        self.budget_note = ""
        """The last word on the caps."""
        self.plan = Phase(name="plan")
        self.judge = Phase(name="judge")
        """Other models are asked about conflicts between agents."""
        self.merge = Phase(name="merge")
        self.planned = False
        """A planner made the tasks, so they are peers and not steps that somebody named."""
        self.end: RunEnd | None = None
        self.version = 0
        """Changes with every event that changes what is shown."""
        self._order: list[Step] = []
        self._steps: dict[str, Step] = {}
        self._pool = Step(name="agents")
        self._depended: set[str] = set()
        self._leaves: int | None = None
        """What `answers` found; None when the graph has changed since."""
        self._first_t: float | None = None
        self._ends: deque[float] = deque()
        """When agents ended that had worked: the latest few, and all of the latest time."""
        self._forgot_ends = False

    # What a screen reads.

    @property
    def total(self) -> int:
        """How many agents are known."""
        return len(self.agents)

    @property
    def ended(self) -> int:
        """How many agents have ended, well or not."""
        counts = self.counts
        return self.total - sum(counts[s] for s in LIVE) - counts[State.QUEUED]

    @property
    def waiting(self) -> int:
        """Agents that wait for a retry, or for a slot while a limit holds calls back."""
        held = self.counts[State.STARTED] if self.traffic.holds else 0
        return self.counts[State.RETRYING] + held

    @property
    def running(self) -> int:
        """Agents whose question is with a provider."""
        return self.counts[State.RUNNING]

    @property
    def starting(self) -> int:
        """Agents that have begun and not asked yet, though no limit holds them back: a library is being loaded."""
        return 0 if self.traffic.holds else self.counts[State.STARTED]

    @property
    def free(self) -> bool:
        """Every model runs on the user's own machine."""
        return bool(self.models) and all(m.startswith(LOCAL_PREFIXES) for m in self.models)

    def spins(self) -> bool:
        """Something moves on the screen without an event: a spinner."""
        live = any(self.counts[state] for state in LIVE)
        return live or self.planning or self.judge.is_live or self.merge.is_live

    def money(self) -> str:
        """`$0.41/$2.00`, `~$0.41` with a guess in it, `$?` with an unknown price, nothing for local models."""
        if self.free:
            return ""
        cost_usd = self.spend.cost_usd
        spent = self.spend.money(2 if cost_usd >= 0.01 or not cost_usd else 4)
        return spent if self.max_cost_usd is None else f"{spent}/{cap(self.max_cost_usd)}"

    @property
    def planning(self) -> bool:
        """The planner is still answering, so more agents may come."""
        return self.plan.started_t is not None and self.plan.seconds is None

    @property
    def short_run(self) -> str:
        """The part of the run id that people type."""
        return self.run.rpartition("-")[2][:12]

    def steps(self) -> Iterator[Step]:
        """The steps in the order in which they became known."""
        pooled = self.planned or len(self._pool.agents) > MAX_SINGLE_STEPS
        for step in self._order:
            if pooled if step is self._pool else not (pooled and step.single):
                yield step

    def answers(self) -> int:
        """How many agents nobody depends on: the ones whose answers are merged."""
        if self._leaves is None:
            depended = self._depended
            names = ((agent.id, agent.group) for agent in self.agents.values())
            self._leaves = sum(1 for pair in names if depended.isdisjoint(pair))
        return self._leaves

    def eta_s(self, now_t: float) -> float | None:
        """Seconds until the known agents have ended, from the latest throughput; None while that says little.

        Nor after they should have: an estimate that did not hold is none.
        """
        left = self.total - self.ended
        if len(self._ends) < 5 or not left or self._first_t is None or self.planning:
            return None
        start, done = self._first_t, len(self._ends)
        if self._forgot_ends:
            start, done = self._ends[0], done - 1
        last = self._ends[-1]
        eta_s = last + left * (last - start) / done - now_t
        return eta_s if last > start and eta_s > 0 else None

    # What happens to it.

    def agent(self, name: str, group: str | None = None) -> Agent:
        """The agent of that id; an unheard-of one joins the step that its id names."""
        agent = self.agents.get(name)
        if agent is not None:
            return agent
        group = group if group is not None else name.partition("[")[0] or name
        agent = Agent(id=one_line(name), group=group)
        self.agents[name] = agent
        self._leaves = None
        self.counts[State.QUEUED] += 1
        for step in self._homes(name, group):
            agent.homes.append((step, len(step.agents)))
            step.agents.append(agent)
            step.cells.append(ord(State.QUEUED))
            step.counts[State.QUEUED] += 1
        return agent

    def depend(self, names: Iterable[str]) -> None:
        """Another agent needs the answers of these agents, or steps: they are not merged themselves."""
        self._depended.update(names)
        self._leaves = None

    def phase(self, purpose: str) -> Phase:
        """Whose work a call is that belongs to no agent."""
        return {"planner": self.plan, "judge": self.judge}.get(purpose, self.merge)

    def charge(self, who: Agent | Phase, spent: Spend) -> None:
        """It took so much, and so did its steps and the run."""
        self.spend.add(spent)
        who.spend.add(spent)
        if isinstance(who, Agent):
            for step, _ in who.homes:
                step.spend.add(spent)

    def move(self, agent: Agent, new: State, t: float) -> None:
        """The agent stands there since `t`."""
        old = agent.state
        if new not in {State.RUNNING, State.RETRYING}:
            agent.retry, agent.out = None, 0
        if old not in LIVE and new in LIVE:
            agent.since_t = t
            self._first_t = t if self._first_t is None else self._first_t
        agent.state = new
        self.counts[old] -= 1
        self.counts[new] += 1
        for step, place in agent.homes:
            step.move(agent, place, old, t)
        if new in {State.DONE, State.FAILED} and old not in ENDED:
            self._ends.append(t)
            while len(self._ends) > MIN_ENDS and self._ends[0] < t - self._window_s():
                self._ends.popleft()
                self._forgot_ends = True

    def _homes(self, name: str, group: str) -> list[Step]:
        if name != group:
            step = self._steps.get(group)
            if step is None:
                step = self._steps[group] = Step(name=one_line(group))
                self._order.append(step)
            return [step]
        pool = self._pool
        if not pool.agents:
            self._order.append(pool)
        if len(pool.agents) >= MAX_SINGLE_STEPS:
            return [pool]
        single = Step(name=one_line(group), single=True)
        self._order.append(single)
        return [pool, single]

    def _window_s(self) -> float:
        """Two agents' time, or 30 s: a shorter window would see one wave of agents end and nothing else."""
        slowest = max((step.median_s or 0.0 for step in self._order), default=0.0)
        return max(ETA_WINDOW_S, 2 * slowest)
