"""Money: what is estimated, booked and reported, and that no cap is passed beyond what could not be known."""

import json
from typing import Any

import pytest

from tests.contract.conftest import Done, Planner, Shell
from tests.fakes.openai_server import Reply, Server

PRICE = "{input_per_mtok: 1000, output_per_mtok: 1000}"
"""A tenth of a cent a token: sums are easy to read."""
PRICED = f"models:\n  small: {{model: openai/fake, price: {PRICE}}}\n"
BOUNDED = f"models:\n  small: {{model: openai/fake, max_output_tokens: 100, price: {PRICE}}}\n"
MANY = "rate: {'openai/*': {parallel: 200}}\n"
ONE = 'tasks: [{id: t, prompt: "Say it."}]\n'
FAN = """\
tasks:
  - {id: t, prompt: "Do {{ item }}", for_each: {items: [a, b, c, d, e, f], as: item}}
merge: {strategy: concat}
"""
WRITTEN = FAN.replace("concat", "write")


def fan_of(agents: int) -> str:
    """A fan-out of so many agents."""
    items = ", ".join(str(number) for number in range(agents))
    return FAN.replace("a, b, c, d, e, f", items)


def paid(input_tokens: int, output_tokens: int, text: str = "x") -> Any:
    """A server's reply that takes so many tokens."""
    return lambda _body: Reply(text=text, tokens=(input_tokens, output_tokens))


def charged_by(server: Server, tokens: int) -> float:
    """What the provider would write on its bill, at the price of these recipes."""
    return len(server.requests) * tokens / 1000


def events_of(done: Done, *types: str) -> list[dict[str, Any]]:
    """The events of these types, in order."""
    return [event for event in done.lines if event["type"] in types]


class TestEstimateAndActual:
    def test_both_stand_side_by_side(self, shell: Shell, server: Server):
        """`--json` has what was set aside beside what it took; the summary says both."""
        server.reply = paid(10, 50)

        told = shell("run", shell.recipe(ONE + BOUNDED), "--cache", "off", "--json")

        estimate, document = told.json["estimate"], told.json
        assert (document["cost_usd"], document["booked"]) == (
            0.06,
            {"cost_usd": 0.06, "tokens": 60},
        )
        assert estimate["tokens"] > 100
        assert estimate["cost_usd"] == pytest.approx(estimate["tokens"] / 1000)
        assert f"$0.06 (estimated ${estimate['cost_usd']:.2f})" in told.err

    def test_each_call_says_what_was_set_aside_for_it(self, shell: Shell, server: Server):
        """`call.started` carries the reservation, so that a killed session can be counted."""
        done = shell("run", shell.recipe(ONE + BOUNDED), "--format", "stream-json")

        (started,) = events_of(done, "call.started")
        assert started["estimated_tokens"] > 100
        assert started["estimated_usd"] == pytest.approx(started["estimated_tokens"] / 1000)

    def test_cached_answers_are_free_and_no_calls(self, shell: Shell, server: Server):
        """The second run costs nothing, also under a cap that the first one had used up."""
        recipe = shell.recipe(FAN + BOUNDED)
        shell("run", recipe)

        again = shell("run", recipe, "--max-cost", "0.001", "--json").json

        assert (again["exit_code"], again["cost_usd"], again["usage"]["calls"]) == (0, 0.0, 0)
        assert again["estimate"] == again["booked"] == {"cost_usd": 0.0, "tokens": 0}


class TestUnknown:
    def test_without_usage_the_cost_is_unknown_and_the_caps_count_a_guess(
        self, shell: Shell, server: Server
    ):
        """A provider that does not count is not free."""
        server.usage = False

        document = shell("run", shell.recipe(ONE + PRICED), "--json").json

        assert (document["cost_usd"], document["usage"]["input_tokens"]) == (None, 0)
        assert document["booked"]["cost_usd"] > 0
        assert document["booked"]["tokens"] > 0

    @pytest.mark.parametrize("tokens", [(-5, 10), (10, -5), (10**12, 10**12)])
    def test_counts_that_cannot_be_are_no_counts(
        self, shell: Shell, server: Server, tokens: tuple[int, int]
    ):
        """Negative and absurd numbers neither pay us back nor end the run."""
        server.reply = paid(*tokens)

        done = shell("run", shell.recipe(FAN + PRICED), "--max-cost", "10", "--json")

        assert (done.code, done.json["cost_usd"]) == (0, None)
        assert 0 < done.json["booked"]["cost_usd"] < 10

    def test_an_unknown_price_is_refused_under_a_cap_before_anything_is_sent(
        self, shell: Shell, server: Server
    ):
        """Exit 2 with both ways out; `--allow-unpriced` goes on and leaves the cost unknown."""
        refused = shell("run", shell.recipe(ONE), "--max-cost", "1")
        allowed = shell("run", shell.recipe(ONE), "--max-cost", "1", "--allow-unpriced", "--json")

        assert (refused.code, refused.out) == (2, "")
        assert "--allow-unpriced" in refused.err
        assert "`price`" in refused.err
        assert (allowed.code, len(server.requests)) == (0, 1)
        found = allowed.json
        assert (found["cost_usd"], found["estimate"]["cost_usd"], found["booked"]["cost_usd"]) == (
            None,
            None,
            None,
        )

    def test_fallbacks_need_a_price_too(self, shell: Shell, server: Server):
        """A model that is asked only in need could pass the cap just as well."""
        price = "{input_per_mtok: 1, output_per_mtok: 1}"
        models = f"models:\n  small: {{model: openai/a, fallbacks: [openai/b], price: {price}}}\n"

        done = shell("run", shell.recipe(ONE + models), "--max-cost", "1")

        assert (done.code, server.requests) == (2, [])
        assert "no price for openai/b" in done.err

    def test_cache_reads_cost_what_the_recipe_says(self, shell: Shell, server: Server):
        """`cached_input_per_mtok` is the price of input that the provider had in its cache."""
        message = {"role": "assistant", "content": "hi"}
        server.reply = {
            "id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {
                "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
                "prompt_tokens_details": {"cached_tokens": 80},
            },
        }  # fmt: skip
        price = "{input_per_mtok: 1000, output_per_mtok: 1000, cached_input_per_mtok: 100}"
        models = f"models:\n  small: {{model: openai/fake, price: {price}}}\n"

        document = shell("run", shell.recipe(ONE + models), "--json").json

        assert document["usage"]["cached_tokens"] == 80
        assert document["cost_usd"] == pytest.approx((20 * 1000 + 80 * 100 + 10 * 1000) / 1e6)

    def test_a_price_of_zero_is_a_price(self, shell: Shell, server: Server):
        """A recipe that says a model is free is believed, also when usage is missing."""
        server.usage = False
        free = "models:\n  small: {model: openai/fake, price: {input_per_mtok: 0, output_per_mtok: 0}}\n"

        done = shell("run", shell.recipe(ONE + free), "--max-cost", "1", "--json")

        assert (done.code, done.json["cost_usd"]) == (0, 0.0)


class TestFailedCalls:
    def test_a_useless_answer_costs_what_the_provider_says(self, shell: Shell, server: Server):
        """A truncated answer is charged: its tokens and its cost are in the totals and on the agent."""
        server.faults = lambda _seen: "length"
        server.reply = paid(10, 50)

        done = shell("run", shell.recipe(ONE + PRICED), "--format", "stream-json")

        (failed,) = events_of(done, "agent.failed")
        (end,) = events_of(done, "run.failed")
        assert (failed["cost_usd"], failed["tokens"]["output_tokens"]) == (0.06, 50)
        assert (end["totals"]["cost_usd"], end["totals"]["usage"]["output_tokens"]) == (0.06, 50)

    def test_one_that_nobody_counted_makes_the_cost_unknown(self, shell: Shell, server: Server):
        """It is null, not 0, and the caps count all that was set aside."""
        server.faults = lambda _seen: "length"
        server.usage = False

        document = shell("run", shell.recipe(ONE + PRICED), "--json").json

        assert document["cost_usd"] is None
        assert document["booked"] == document["estimate"]

    def test_one_that_was_turned_away_is_a_call_that_costs_nothing(
        self, shell: Shell, server: Server
    ):
        """A 503 and then an answer: two calls, the cost and the estimate of one."""
        server.faults = ["503"]
        server.reply = paid(10, 50)

        done = shell("run", shell.recipe(ONE + BOUNDED), "--format", "stream-json")

        (failed,) = events_of(done, "call.failed")
        totals = events_of(done, "run.completed")[0]["totals"]
        assert (failed["kind"], failed["booked_tokens"], failed["booked_usd"]) == ("server", 0, 0.0)
        assert (totals["usage"]["calls"], totals["cost_usd"]) == (2, 0.06)
        started = events_of(done, "call.started")
        assert totals["estimate"]["tokens"] == started[1]["estimated_tokens"]

    def test_a_call_that_was_cut_off_is_booked(self, shell: Shell, server: Server):
        """At the timeout one call is in flight: it is a call, and nobody knows what it costs."""
        server.faults = lambda seen: "hang" if "Do b" in seen.prompt else "ok"

        document = shell(
            "run", shell.recipe(FAN + PRICED), "-j", "1", "--timeout", "2s", "--json"
        ).json

        assert (document["status"], document["usage"]["calls"]) == ("timeout", 2)
        assert document["cost_usd"] is None
        assert document["booked"]["cost_usd"] > 0.5


class TestCaps:
    def test_nothing_starts_beyond_a_cap(self, shell: Shell, server: Server):
        """200 agents at once whose answers take three times what was set aside: the cap is passed by just that."""
        server.reply, server.latency_s = paid(100, 2900), 0.5
        recipe = shell.recipe(fan_of(200) + PRICED + MANY)

        done = shell(
            "run", recipe, "-j", "200", "--max-cost", "100", "--format", "stream-json",
            "--cache", "off",
        )  # fmt: skip

        spent, errors, late = 0.0, 0.0, 0
        for event in events_of(done, "call.started", "call.completed"):
            if event["type"] == "call.started":
                late += spent >= 100
                errors += max(0.0, 3.0 - event["estimated_usd"])
            else:
                spent += event["cost_usd"]
        assert (done.code, late) == (4, 0)
        assert spent == pytest.approx(charged_by(server, 3000))
        assert 90 < spent <= 100 + errors < 300

    def test_good_estimates_keep_the_cap(self, shell: Shell, server: Server):
        """With bounded answers nothing is spent beyond the cap, and nearly all of it is used."""
        server.reply, server.latency_s = paid(30, 100), 0.02
        recipe = shell.recipe(fan_of(200) + BOUNDED + MANY)

        done = shell("run", recipe, "-j", "200", "--max-cost", "13", "--json", "--cache", "off")

        assert done.code == 4
        assert 11.5 < done.json["cost_usd"] <= 13
        assert done.json["cost_usd"] == pytest.approx(charged_by(server, 130))

    def test_the_writer_has_its_share(self, shell: Shell, server: Server):
        """At the cap nothing new starts, the writer puts together what there is, and the exit code says budget."""
        server.routes[:] = [
            ("You write the final", lambda _b: Reply(text="MERGED", tokens=(50, 10)))
        ]
        server.reply = paid(100, 100)

        done = shell(
            "run", shell.recipe(WRITTEN + BOUNDED + "limits: {reserve: 40%}"), "-j", "1",
            "--max-cost", "1.5", "--cache", "off", "--format", "stream-json",
        )  # fmt: skip

        (end,) = events_of(done, "run.completed")
        assert (done.code, end["status"], end["result"]) == (4, "budget", "MERGED")
        assert any(
            "40% kept for the merge" in e["message"] for e in events_of(done, "budget.warning")
        )
        assert end["totals"]["cost_usd"] <= 1.5

    @pytest.mark.parametrize("share", ["0%", "100%"])
    def test_every_share_ends_with_what_there_is(self, shell: Shell, server: Server, share: str):
        """With nothing kept the results are put together in code; with all kept no agent may call."""
        recipe = shell.recipe(WRITTEN + BOUNDED + f"limits: {{reserve: {share}}}")
        server.reply = paid(100, 100)

        done = shell("run", recipe, "-j", "1", "--max-cost", "0.6", "--cache", "off")

        asked = len(server.asked("Do "))
        assert (done.code, asked > 0, bool(done.out)) == (4, share == "0%", share == "0%")

    def test_a_cap_below_one_call_sends_nothing_that_is_known_not_to_fit(
        self, shell: Shell, server: Server
    ):
        """The bound on the answer says so before the call; the hint names the cap."""
        done = shell("run", shell.recipe(ONE + BOUNDED), "--max-cost", "0.0001")

        assert (done.code, done.out, len(server.requests)) == (4, "", 0)
        assert "max_cost_usd" in done.err

    def test_max_tokens_counts_input_and_output(self, shell: Shell, server: Server):
        """Both together, over the whole run."""
        server.reply = paid(300, 100)

        done = shell(
            "run", shell.recipe(fan_of(20) + BOUNDED), "-j", "1", "--max-tokens", "2000",
            "--cache", "off", "--json",
        )  # fmt: skip

        usage = done.json["usage"]
        assert done.code == 4
        assert 1200 <= usage["input_tokens"] + usage["output_tokens"] <= 2000 + 400

    def test_a_retry_is_budgeted(self, shell: Shell, server: Server):
        """A cap on calls counts every request, so retries cannot pass it."""
        server.faults = lambda _seen: "503"

        done = shell("run", shell.recipe(ONE + "retry: {attempts: 5}\nlimits: {max_calls: 2}"))

        assert (done.code, len(server.requests)) == (4, 2)

    def test_a_cap_that_the_planner_uses_up(self, shell: Shell, server: Server, plan_of: Planner):
        """Nothing was finished, so there is no result; the exit code says why."""
        server.routes[:] = [
            ("You plan work", lambda _b: Reply(text=plan_of(a="A.", b="B."), tokens=(100, 5000)))
        ]
        recipe = shell.recipe("task: Compare two things.\nmode: swarm\n" + PRICED)

        done = shell("run", recipe, "--max-cost", "2", "--cache", "off", "--json")

        assert (done.code, done.json["status"], done.json["result"]) == (4, "budget", None)
        assert (done.json["cost_usd"], len(server.requests)) == (5.1, 1)


class TestResume:
    def test_a_higher_cap_finishes_the_run(self, shell: Shell, server: Server):
        """`resume --max-cost` goes on: finished agents are not asked again, and all sessions are added up."""
        server.reply = paid(100, 100)
        recipe = shell.recipe(FAN + BOUNDED)
        first = shell("run", recipe, "-j", "1", "--max-cost", "0.7", "--cache", "off", "--json")
        before = [seen.prompt for seen in server.requests]

        done = shell("resume", "last", "--max-cost", "5", "--json")

        after = [seen.prompt for seen in server.requests[len(before) :]]
        assert (first.code, done.code) == (4, 0)
        assert len(before) + len(after) == 6
        assert not set(before) & set(after)
        assert done.json["cost_usd"] == pytest.approx(charged_by(server, 200)) == 1.2
        assert done.json["usage"] == {
            "input_tokens": 600, "output_tokens": 600, "cached_tokens": 0, "calls": 6,
        }  # fmt: skip
        assert done.json["estimate"]["cost_usd"] > first.json["estimate"]["cost_usd"] > 0

    def test_a_cap_on_tokens_can_be_raised_too(self, shell: Shell, server: Server):
        """`resume --max-tokens`."""
        server.reply = paid(100, 100)
        recipe = shell.recipe(FAN + BOUNDED)
        first = shell("run", recipe, "-j", "1", "--max-tokens", "700", "--cache", "off")

        done = shell("resume", "last", "--max-tokens", "5000", "--json")

        assert (first.code, done.code, len(server.requests)) == (4, 0, 6)

    def test_a_cap_that_is_spent_already_sends_nothing(self, shell: Shell, server: Server):
        """What is finished is printed, and the exit code stays 4."""
        server.reply = paid(100, 100, "done")
        recipe = shell.recipe(FAN + BOUNDED)
        shell("run", recipe, "-j", "1", "--max-cost", "0.7", "--cache", "off")
        sent = len(server.requests)

        done = shell("resume", "last", "--max-cost", "0.1")

        assert (done.code, len(server.requests) - sent) == (4, 0)
        assert "done" in done.out

    def test_planner_and_failed_work_of_earlier_sessions_counts(
        self, shell: Shell, server: Server, plan_of: Planner
    ):
        """The plan was paid in the first session, and so was a failed agent's useless answer."""
        server.routes[:] = [
            ("You plan work", lambda _b: Reply(text=plan_of(a="Aaa.", b="Bbb."), tokens=(10, 20))),
            ("You write the final", lambda _b: Reply(text="MERGED", tokens=(30, 40))),
        ]
        server.reply = paid(100, 100)
        server.faults = lambda seen: "length" if "Bbb." in seen.prompt and worker(seen) else "ok"
        recipe = shell.recipe(
            "task: Compare two things.\nmode: swarm\nplan: {replans: 0}\n" + PRICED
        )
        first = shell("run", recipe, "--cache", "off", "--json").json
        server.faults = ()

        done = shell("resume", "last", "--json").json

        assert (first["exit_code"], done["exit_code"], done["result"]) == (3, 0, "MERGED")
        told = {"plan": 0.03, "a": 0.2, "b, cut": 0.2, "b": 0.2, "written twice": 0.14}
        assert done["cost_usd"] == pytest.approx(sum(told.values()))
        assert done["usage"]["calls"] == len(server.requests) == 6


def worker(seen: Any) -> bool:
    """Whether a request comes from an agent, not from planner or writer."""
    return not any(mark in seen.text for mark in ("You plan work", "You write the final"))


class TestBefore:
    def test_a_dry_run_prices_each_call_with_its_own_model(self, shell: Shell):
        """Fan-outs are counted, the writer too, and an unknown price makes the sum unknown."""
        models = (
            f"models:\n  small: {{model: openai/fake, price: {PRICE}}}\n"
            "  writer: {model: openai/dear, price: {input_per_mtok: 5000, output_per_mtok: 5000}}\n"
        )

        known = shell("run", shell.recipe(WRITTEN + models), "-n", "--json").json
        unknown = shell("run", shell.recipe(WRITTEN), "-n")

        agents, writer = known["estimate"]["by_model"]
        assert (agents["purpose"], agents["model"], agents["calls"]) == ("agent", "openai/fake", 6)
        assert (writer["purpose"], writer["model"], writer["calls"]) == ("writer", "openai/dear", 1)
        tokens = writer["input_tokens"] + writer["output_tokens"]
        assert writer["cost_usd"] == pytest.approx(tokens * 5 / 1000)
        assert known["estimate"]["cost_usd"] == agents["cost_usd"] + writer["cost_usd"]
        assert known["calls"] == 7
        assert "cost unknown" in unknown.out
        assert "$0" not in unknown.out

    def test_a_dry_run_warns_where_a_cap_will_not_do(self, shell: Shell):
        """Each cap that the estimate passes is named."""
        done = shell(
            "run", shell.recipe(FAN + PRICED + "limits: {max_calls: 3}"), "-n",
            "--max-cost", "0.01", "--max-tokens", "10",
        )  # fmt: skip

        warnings = [line for line in done.out.splitlines() if line.startswith("warning")]
        assert [name for name in ("max_cost_usd", "max_tokens", "max_calls")
                for line in warnings if name in line] == ["max_cost_usd", "max_tokens", "max_calls"]  # fmt: skip

    def test_a_dry_run_with_a_planner_prices_the_planner(self, shell: Shell, server: Server):
        """How many agents follow is not known, and is not made up."""
        recipe = shell.recipe("task: Compare two things.\nmode: swarm\n" + PRICED)

        known = shell("run", recipe, "-n", "--json").json

        (planner,) = known["estimate"]["by_model"]
        assert (planner["purpose"], known["estimate"]["complete"], known["calls"]) == (
            "planner",
            False,
            None,
        )
        assert known["estimate"]["cost_usd"] > 0
        assert server.requests == []

    def test_a_plan_says_what_it_will_take(self, shell: Shell, server: Server, plan_of: Planner):
        """`swarm plan`: the plan on stdout, its price and that of planning on stderr."""
        server.routes[:] = [
            ("You plan work", lambda _b: Reply(text=plan_of(a="A.", b="B."), tokens=(100, 400)))
        ]
        recipe = shell.recipe("task: Compare two things.\nmode: swarm\n" + PRICED)

        done = shell("plan", recipe, "--max-cost", "1")

        assert [task["id"] for task in json.loads(done.out)["tasks"]] == ["a", "b"]
        assert "planning took 500 tokens, $0.5000" in done.err
        assert "2 tasks, 3 calls" in done.err
        assert "more than max_cost_usd $1" in done.err
