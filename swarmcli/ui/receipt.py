"""The receipt in words: who asked and paid, what was of no use, and how parallel the work was. Pure.

Rule: only what is in `--json` is told, and a line without a fact is empty.
"""

import math
from collections.abc import Mapping
from typing import cast

from swarmcli.recipe.values import Json
from swarmcli.ui.cells import count, dollars, duration
from swarmcli.ui.checks import Checks, many
from swarmcli.ui.clean import one_line

MAX_UNUSED = 4
"""So many agents whose work nobody used are named."""


class ReceiptWords:
    """Lines about one run.

    Args:
        totals: the numbers of the run's last event; older runs have no receipt.
        free: its models run on the user's own machine, and cost nothing.
    """

    def __init__(self, totals: Mapping[str, Json], *, free: bool = False) -> None:
        self._totals = totals
        self._receipt = mapping(totals.get("receipt"))
        self._free = free

    def steps(self) -> str:
        """`6 critical steps`."""
        steps = _number(self._receipt.get("critical_steps"))
        return many(int(steps), "critical step")

    def time(self) -> str:
        """`13.4x: 18m17s of agent time in 1m22s; 18m25s one after the other; 6 critical steps`, for a page."""
        speedup = _number(self._totals.get("speedup"))
        if speedup <= 0 or not self._receipt:
            return ""
        agent_s, wall_s, serial_s = (
            _seconds(_number(self._receipt.get(key))) for key in ("agent_s", "wall_s", "serial_s")
        )
        facts = (
            f"{speedup:.1f}x: {agent_s} of agent time in {wall_s}",
            f"{serial_s} one after the other",
            self.steps(),
        )
        return "; ".join(fact for fact in facts if fact)

    def path(self) -> str:
        """`planner > scan[209] > writer (1m22s)`."""
        critical = mapping(self._totals.get("critical_path"))
        agents = critical.get("agents")
        seconds = _number(critical.get("seconds"))
        if not isinstance(agents, list) or not agents or not seconds:
            return ""
        names = " > ".join(one_line(str(name)) for name in agents)
        return f"{names} ({_seconds(seconds)})"

    def roles(self) -> str:
        """`planner 1 call $0.002, small 40 calls $0.011`; nothing where one role did it all."""
        roles = mapping(self._receipt.get("roles"))
        if len(roles) < 2:
            return ""
        return ", ".join(self._role(one_line(name), mapping(of)) for name, of in roles.items())

    def waste(self) -> str:
        """`2 agents unused (t4, t7) $0.02; 3 calls lost ~$0.01; 4 hedged; 1 duplicate task; 9 calls from the cache`."""
        receipt = self._receipt
        unused, lost = mapping(receipt.get("unused")), mapping(receipt.get("lost"))
        hedged, folded, cached = (
            int(_number(receipt.get(key))) for key in ("hedged", "folded", "cached")
        )
        lost_calls = int(_number(lost.get("calls")))
        facts = (
            self._unused(unused),
            f"{many(lost_calls, 'call')} lost{self._about(lost)}" if lost_calls else "",
            f"{hedged} hedged" if hedged else "",
            many(folded, "duplicate task"),
            f"{many(cached, 'call')} from the cache" if cached else "",
        )
        return "; ".join(fact for fact in facts if fact)

    def checks(self, checks: Checks) -> str:
        """`votes: 37 agreed, 3 escalated (0.28 of the large model's cost); 2 conflicts (1 unresolved); re-planned`."""
        return checks.summary(votes=self._votes(), conflicts=self._conflicts())

    def identity(self) -> str:
        """`k 2 small calls x r 0.1 + e 0.08 large calls = 0.28 of asking the large model alone`."""
        cost = mapping(mapping(self._totals.get("votes")).get("cost"))
        if not cost:
            return ""
        k, r, e, of_large = (f"{_number(cost.get(key)):.3g}" for key in ("k", "r", "e", "of_large"))
        return f"k {k} small calls x r {r} + e {e} large calls = {of_large} of asking the large model alone"

    def _votes(self) -> str:
        votes = mapping(self._totals.get("votes"))
        told = [
            f"{number} {word}"
            for word in ("agreed", "divided", "escalated", "audited")
            if (number := self._voted(votes, word))
        ]
        if not told:
            return ""
        of_large = mapping(votes.get("cost")).get("of_large")
        share = f" ({_number(of_large):.2f} of the large model's cost)" if of_large else ""
        stopped = ", routing stopped" if votes.get("routing_stopped") is True else ""
        return f"votes: {', '.join(told)}{stopped}{share}"

    def _voted(self, votes: Mapping[str, Json], word: str) -> int:
        """How many votes came to that; those that are divided count in JSON as agreed, because their value stands."""
        number = int(_number(votes.get(word)))
        return number - int(_number(votes.get("divided"))) if word == "agreed" else number

    def _conflicts(self) -> str:
        conflicts = self._totals.get("conflicts")
        if not isinstance(conflicts, list) or not conflicts:
            return ""
        left = sum(mapping(conflict).get("status") != "resolved" for conflict in conflicts)
        solved = (
            "all resolved" if not left else f"{left} unresolved" if left < len(conflicts) else ""
        )
        return many(len(conflicts), "conflict") + (f" ({solved})" if solved else "")

    def _role(self, name: str, of: Mapping[str, Json]) -> str:
        facts = [name, many(int(_number(of.get("calls"))), "call")]
        if tokens := int(_number(of.get("tokens"))):
            facts.append(f"{count(tokens)} tok")
        return " ".join(facts) + self._money(of)

    def _unused(self, unused: Mapping[str, Json]) -> str:
        agents = unused.get("agents")
        if not isinstance(agents, list) or not agents:
            return ""
        names = ", ".join(one_line(str(name)) for name in agents[:MAX_UNUSED])
        names += ", ..." if len(agents) > MAX_UNUSED else ""
        return f"{many(len(agents), 'agent')} unused ({names}){self._money(unused)}"

    def _money(self, of: Mapping[str, Json]) -> str:
        """Behind what it was paid for; nothing for what was free."""
        cost = of.get("cost_usd")
        if self._free or cost == 0:
            return ""
        return " $?" if not isinstance(cost, int | float) else f" {dollars(cost, _digits(cost))}"

    def _about(self, of: Mapping[str, Json]) -> str:
        """The same for what is booked, and perhaps not charged."""
        return self._money(of).replace(" $", " ~$").replace("~$?", "$?")


def mapping(value: object) -> Mapping[str, Json]:
    """The value where it is a JSON object, else an empty one."""
    return cast("Mapping[str, Json]", value) if isinstance(value, Mapping) else {}


def _number(value: object) -> float:
    return value if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _seconds(seconds: float) -> str:
    """With a digit more than on a display that counts on."""
    return f"{seconds:.1f}s" if seconds < 60 else duration(seconds)


def _digits(cost: float) -> int:
    return 3 if cost >= 0.001 else 6
