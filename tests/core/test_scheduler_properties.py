"""What must hold for any graph, any limit, any failures and any order of finishing."""

from hypothesis import event, given, settings
from hypothesis import strategies as st

from swarmcli.core.plan import Dependency
from swarmcli.core.scheduler import Cancel, Scheduler, Skip, Start
from tests.core.tasks import task


@st.composite
def graphs(draw):
    """Tasks with single, fan-out and optional dependencies on earlier ones."""
    tasks = []
    for index in range(draw(st.integers(1, 14))):
        needs = []
        for number in range(draw(st.integers(0, 3)) if tasks else 0):
            agents = draw(st.lists(st.sampled_from([t.id for t in tasks]), unique=True, max_size=4))
            least = draw(st.integers(0, 1)) if agents else 0
            name = f"need{number}"
            needs.append(Dependency(name=name, agents=tuple(agents), fan_out=True, min_done=least))
        tasks.append(task(f"t{index}", *needs, optional=draw(st.booleans())))
    return tasks


class Player:
    """Plays the engine: carries decisions out, lets agents end in any order, and checks every rule on the way."""

    def __init__(self, draw, tasks, parallel, fail_fast):
        self.draw = draw
        self.scheduler = Scheduler(parallel=parallel, fail_fast=fail_fast)
        self.parallel = parallel
        self.unknown = list(tasks)
        self.running = set()
        self.cancelling = set()
        self.ends = {}
        """Agent -> how it ended, in order."""
        self.started = []
        self.reasons = {}

    def take(self, decisions):
        for decision in decisions:
            agent = decision.agent
            match decision:
                case Start():
                    assert agent not in self.started, "started twice"
                    assert agent not in self.ends, "started after its end"
                    assert self.is_ready(agent), "started before its needs"
                    assert self.scheduler.stopped is None, "started after the stop"
                    self.started.append(agent)
                    self.running.add(agent)
                case Skip(because=because):
                    assert agent not in self.running, "skipped while running"
                    self.end(agent, "skipped")
                    self.reasons[agent] = because
                case Cancel():
                    assert agent in self.running
                    self.cancelling.add(agent)
        assert len(self.running) <= self.parallel

    def end(self, agent, how):
        assert agent not in self.ends, "ended twice"
        self.ends[agent] = how

    def needs(self, agent):
        return self.scheduler.tasks[agent].depends_on

    def is_ready(self, agent):
        return all(
            all(a in self.ends for a in need.agents) and self.is_satisfied(need)
            for need in self.needs(agent)
        )

    def is_satisfied(self, need):
        return sum(self.ends.get(a) == "done" for a in need.agents) >= need.min_done

    def is_broken(self, need):
        return all(a in self.ends for a in need.agents) and not self.is_satisfied(need)

    def step(self):
        """One thing happens: tasks become known, an agent ends, or the run is stopped."""
        choices = [*(["grow"] if self.unknown else []), *(["end"] if self.running else [])]
        match self.draw(st.sampled_from([*choices * 4, "stop"])):
            case "grow":
                count = self.draw(st.integers(1, len(self.unknown)))
                batch, self.unknown = self.unknown[:count], self.unknown[count:]
                self.take(self.scheduler.added(batch))
            case "end":
                self.end_one()
            case "stop":
                hard = self.draw(st.booleans())
                self.take(self.scheduler.stop("stopped", cancel_running=hard))

    def end_one(self):
        agent = self.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(agent)
        how = self.draw(st.sampled_from(["done", "done", "failed"]))
        if agent in self.cancelling and self.draw(st.booleans()):
            how = "cancelled"
        self.end(agent, how)
        self.take(getattr(self.scheduler, how)(agent))


@settings(max_examples=150, deadline=None)
@given(st.data(), graphs(), st.integers(1, 5), st.booleans())
def test_every_task_ends_once_and_never_starts_before_its_needs(data, tasks, parallel, fail_fast):
    """Whatever happens, no task is lost, started twice, started early or left waiting."""
    player = Player(data.draw, tasks, parallel, fail_fast)
    while player.unknown or player.running:
        player.step()

    assert {t.id for t in tasks} == set(player.ends)
    assert player.ends == dict(player.scheduler.states)
    event(f"stopped: {player.scheduler.stopped is not None}")


@settings(max_examples=150, deadline=None)
@given(st.data(), graphs(), st.integers(1, 5))
def test_failures_spread_as_skips_exactly_where_a_need_is_not_met(data, tasks, parallel):
    """Without a stop a task is skipped if and only if one of its dependencies is unsatisfied."""
    player = Player(data.draw, tasks, parallel, fail_fast=False)
    player.take(player.scheduler.added(tasks))
    while player.running:
        player.end_one()

    skipped = {agent for agent, how in player.ends.items() if how == "skipped"}
    broken = {t.id for t in tasks if any(player.is_broken(need) for need in t.depends_on)}
    assert broken == skipped
    assert {t.id for t in tasks} == set(player.ends)


@settings(max_examples=100, deadline=None)
@given(st.data(), graphs(), st.integers(1, 3))
def test_dropping_tasks_leaves_a_graph_that_still_ends(data, tasks, parallel):
    """A corrected plan may drop tasks in any state, with what depends on them; the rest is unharmed."""
    player = Player(data.draw, tasks, parallel, fail_fast=False)
    player.take(player.scheduler.added(tasks))
    for _ in range(data.draw(st.integers(0, len(tasks)))):
        if player.running:
            player.end_one()
    gone = set(data.draw(st.lists(st.sampled_from([t.id for t in tasks]), unique=True)))
    for t in tasks:
        if any(agent in gone for need in t.depends_on for agent in need.agents):
            gone.add(t.id)

    cancelled_before = set(player.cancelling)
    running_before = set(player.running)
    player.running -= gone
    for agent in gone:
        player.ends.pop(agent, None)
    decisions = player.scheduler.dropped([t.id for t in tasks if t.id in gone])
    cancels = {d.agent for d in decisions if isinstance(d, Cancel)}
    player.take(d for d in decisions if not isinstance(d, Cancel))
    while player.running:
        player.end_one()

    assert running_before & gone == cancels - cancelled_before
    assert [t.id for t in tasks if t.id not in gone] == list(player.scheduler.tasks)
    assert set(player.scheduler.tasks) == set(player.ends)
