"""Questions of a dataset, whether an answer is right, and what right answers prove."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.comparison import Answered, Result, estimate, paired, quantile, sign_test
from swarmcli.core.scoring import NotAQuestion, is_correct, question_of


def ask(scorer=None, **record):
    """The question of one line."""
    return question_of({"question": "What?", **record}, default_id="7", scorer=scorer)


GSM8K = (
    "She sold 48/2 = <<48/2=24>>24 clips in May.\nThat is 48+24 = <<48+24=72>>72 clips.\n#### 72"
)


class TestQuestion:
    def test_gsm8k_works_as_it_is(self):
        """The result behind #### is what is expected, not the working."""
        question = ask(answer=GSM8K)

        assert (question.id, question.expected, question.scorer) == ("7", "72", "number")

    def test_input_and_expected_are_the_same_as_question_and_answer(self):
        """Both spellings are in use; an id is kept."""
        question = question_of(
            {"input": "Capital?", "expected": "Paris", "id": 3}, default_id="7", scorer=None
        )

        assert (question.id, question.text, question.expected, question.scorer) == (
            "3",
            "Capital?",
            "Paris",
            "exact",
        )

    @pytest.mark.parametrize(
        ("answer", "scorer"),
        [
            (5, "number"),
            ("$1,250.00", "number"),
            ("1/2", "number"),
            ("-3", "number"),
            ("B", "choice"),
            ("(C)", "choice"),
            ("Paris", "exact"),
            ("2024-01-31", "exact"),
            ("3 Musketeers", "exact"),
        ],
    )
    def test_auto_goes_by_what_is_expected(self, answer, scorer):
        """A bare number is compared as one, one capital letter as a choice, everything else as text."""
        assert ask(answer=answer).scorer == scorer

    @pytest.mark.parametrize("answer", [1, "apple", "B", "b", "(B)", "B."])
    def test_a_choice_is_named_by_position_text_or_label(self, answer):
        """All three forms are in use; the labels that are asked for are ours."""
        question = ask(choices=["stone", "apple", "car"], answer=answer)

        assert question.expected == "B"
        assert question.text == "What?\n\nA) stone\nB) apple\nC) car"

    def test_choices_in_the_form_of_arc(self):
        """{"text": [...], "label": [...]} is understood, too."""
        question = ask(choices={"text": ["x", "y"], "label": ["A", "B"]}, answer="A")

        assert (question.expected, question.choices) == ("A", ("x", "y"))

    @pytest.mark.parametrize(
        ("labels", "answer"), [(["1", "2"], "2"), (["1", "2"], 2), (["B", "A"], "A")]
    )
    def test_labels_of_the_dataset_mean_what_they_mean_there(self, labels, answer):
        """ARC labels some choices with numbers from 1; what is asked for is our letter at the same place."""
        question = ask(choices={"text": ["x", "y"], "label": labels}, answer=answer)

        assert (question.expected, question.text) == ("B", "What?\n\nA) x\nB) y")

    @pytest.mark.parametrize(
        ("choices", "answer", "expected"),
        [
            ([1, 2, 3], 2, "B"),
            (["1", "2", "3"], 2, "C"),
            (["3", "5", "7"], 5, "B"),
            ([10, 20], "20", "B"),
            ([0.5, 1.5], 1.5, "B"),
        ],
    )
    def test_a_number_among_numbers_is_itself_and_among_texts_a_position(
        self, choices, answer, expected
    ):
        """What is equal as JSON is meant; MMLU counts from 0, also where its choices are numbers in quotes."""
        assert ask(choices=choices, answer=answer).expected == expected

    @pytest.mark.parametrize(
        ("record", "why"),
        [
            ([], "no JSON object"),
            ({"answer": "1"}, "'question' or 'input'"),
            ({"question": "a"}, "'answer' or 'expected'"),
            ({"question": " ", "answer": "1"}, "question is no text"),
            ({"question": 3, "answer": "1"}, "question is no text"),
            ({"question": "a", "answer": ["1"]}, "neither text nor a number"),
            ({"question": "a", "answer": "#### "}, "is no exact"),
            ({"question": "a", "answer": "A", "choices": ["x"]}, "no list of 2"),
            ({"question": "a", "answer": "Z", "choices": ["x", "y"]}, "none of its choices"),
            ({"question": "a", "answer": 2, "choices": ["x", "y"]}, "none of its choices"),
            ({"question": "a", "answer": "1", "id": [1]}, "id is neither"),
            ({"question": "a", "answer": float("nan")}, "neither text nor a number"),
            (
                {"question": "a", "answer": "A", "choices": {"text": ["x", "y"], "label": ["A"]}},
                "another number of labels",
            ),
        ],
    )
    def test_what_cannot_be_used_says_why(self, record, why):
        """Never a guess."""
        with pytest.raises(NotAQuestion, match=why):
            question_of(record, default_id="1", scorer=None)

    @pytest.mark.parametrize(("scorer", "answer"), [("number", "Paris"), ("choice", "72")])
    def test_a_scorer_that_does_not_fit_is_refused(self, scorer, answer):
        """A text answer cannot be compared as a number: every model would seem to fail."""
        with pytest.raises(NotAQuestion, match=f"is no {scorer}"):
            ask(scorer, answer=answer)

    @pytest.mark.parametrize("answer", ["b", "(B)", "B."])
    def test_a_letter_is_a_choice_where_the_user_says_so(self, answer):
        """The choices may stand in the question itself."""
        assert is_correct(ask("choice", answer=answer), "It is late.\nB")


class TestCorrect:
    @pytest.mark.parametrize(
        "answer", ["72", "She sold 48 and 24, so 72 clips.", "$72.00", "**72**", "72%", "144/2"]
    )
    def test_numbers_are_compared_as_numbers(self, answer):
        """The last number counts, however it is written; a percent sign that the dataset leaves out does no harm."""
        assert is_correct(ask(answer=GSM8K), answer)

    @pytest.mark.parametrize("answer", ["73", "", "no idea", "72 of 73", "0.72", "-72", "7 2"])
    def test_other_numbers_are_wrong(self, answer):
        """Also none, another last one, and the negative one."""
        assert not is_correct(ask(answer=GSM8K), answer)

    def test_percent_that_is_expected_is_a_share(self):
        """Where the dataset writes the sign, 0.2 is 20 %."""
        question = ask(answer="20%")

        assert is_correct(question, "0.2")
        assert is_correct(question, "It is 20 %.")
        assert not is_correct(question, "30%")

    @pytest.mark.parametrize(
        "answer", ["B", "b", "(B)", "The answer is B.", "Apple.", "Thought.\n\n**B**", "B) apple"]
    )
    def test_a_choice_by_letter_or_text(self, answer):
        """Both say the same."""
        assert is_correct(ask(choices=["stone", "apple"], answer="B"), answer)

    def test_the_letter_that_was_asked_for_goes_before_a_choice_that_looks_like_one(self):
        """Choices may be letters themselves; models are asked for the label."""
        question = ask(choices=["B", "X"], answer=1)

        assert is_correct(question, "B")
        assert is_correct(question, "X")
        assert not is_correct(question, "A")

    @pytest.mark.parametrize("answer", ["A", "stone", "", "both", "C"])
    def test_another_choice_is_wrong(self, answer):
        """Also none, and one that does not exist."""
        assert not is_correct(ask(choices=["stone", "apple"], answer="B"), answer)

    def test_exact_means_the_same_words(self):
        """Case, spacing and a final stop do not count; more words do."""
        question = ask(answer="New York")

        assert is_correct(question, '"new  york."')
        assert not is_correct(question, "New York City")


class TestEstimate:
    def test_a_share_has_the_textbook_standard_error(self):
        """sqrt(p (1 - p) / (n - 1)) for a share of right answers."""
        found = estimate([1.0] * 90 + [0.0] * 10)

        assert found is not None
        assert found.mean == 0.9
        assert found.standard_error == pytest.approx(math.sqrt(0.9 * 0.1 / 99))

    @given(st.lists(st.sampled_from([0.0, 1.0, -1.0]), min_size=2, max_size=60))
    def test_it_is_that_of_the_mean(self, values):
        """As the standard library has it."""
        found = estimate(values)

        assert found is not None
        assert found.mean == pytest.approx(statistics.fmean(values))
        assert found.standard_error == pytest.approx(
            statistics.stdev(values) / math.sqrt(len(values))
        )

    def test_few_values_prove_nothing(self):
        """One value has no error that could be known; none has no mean."""
        assert estimate([]) is None
        assert estimate([1.0]).standard_error is None


class TestPaired:
    def test_only_questions_that_differ_count(self):
        """Counted by hand: two won, one lost, two alike; a question that one was not asked is left out."""
        before = {"a": True, "b": False, "c": False, "d": True, "e": False, "f": True}
        after = {"a": True, "b": True, "c": True, "d": False, "e": False, "g": True}

        found = paired(before, after)

        assert (found.questions, found.won, found.lost) == (5, 2, 1)
        assert found.difference.mean == pytest.approx(0.2)
        assert found.difference.standard_error == pytest.approx(
            statistics.stdev([0, 1, 1, -1, 0]) / math.sqrt(5)
        )
        assert found.p_value == 1.0

    def test_pairing_sees_what_two_means_cannot(self):
        """On questions that are hard for both, a small steady gain is far outside the paired error only."""
        rng = random.Random(1)
        before = {str(i): rng.random() < 0.5 for i in range(400)}
        after = {key: right or rng.random() < 0.1 for key, right in before.items()}

        found = paired(before, after)

        error = estimate([float(right) for right in before.values()]).standard_error
        assert found.difference.mean > 3 * found.difference.standard_error
        assert found.difference.mean < 3 * error
        assert found.p_value < 0.001

    @pytest.mark.parametrize(
        ("won", "lost", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (8, 1, 0.0390625)]
    )
    def test_the_exact_test_by_hand(self, won, lost, p):
        """Twice the tail of the binomial distribution, at most 1."""
        assert sign_test(won, lost) == p

    @given(st.integers(0, 700), st.integers(0, 700))
    def test_the_exact_test_is_a_symmetric_probability(self, won, lost):
        """Also for thousands of questions."""
        assert 0 <= sign_test(won, lost) == sign_test(lost, won) <= 1

    def test_nothing_in_common_is_no_comparison(self):
        """Rather than a difference of zero."""
        assert paired({"a": True}, {"b": True}) is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_a_value_that_enough_others_do_not_exceed(values, share):
    """Nearest rank: no smaller value would do."""
    found = quantile(values, share)

    assert found in values
    assert sum(v <= found for v in values) >= share * len(values)
    assert sum(v < found for v in values) < share * len(values)


def test_an_unfinished_question_is_neither_right_nor_wrong():
    """A failed one is wrong; one that was never asked says nothing of the configuration."""

    def answered(name, status, correct):
        changed = question_of({"question": "x", "answer": "1"}, default_id=name, scorer=None)
        return Answered(question=changed, config="c", status=status, correct=correct)

    answers = (
        answered("a", "ok", True),
        answered("b", "failed", False),
        answered("c", "unfinished", None),
    )
    result = Result(
        name="c", description="", answers=answers, calls=2, cost_usd=None, escalated=None
    )
    summary = result.summary(result)

    assert (summary["asked"], summary["right"], summary["failed"]) == (2, 1, 1)
    assert summary["accuracy"] == 0.5
    assert summary["difference"] is None
    assert summary["cost_usd"] is None
    assert summary["seconds_p50"] is None
