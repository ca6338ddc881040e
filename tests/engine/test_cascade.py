"""The cascade as a whole: what small models with correlated mistakes cost and spoil, through the real engine."""

import pytest

from tests.cascade import Crowd, measure


def test_good_small_models_of_two_kinds_cost_at_most_two_fifths():
    """Small 90 %, large 94.5 %, a tenth of the price; the audits of a fan-out of 2,400 are in the figure."""
    measured = measure(Crowd(0.90), seed=1, questions=2400)

    assert measured.cost <= 0.40
    assert measured.difference >= -0.5
    assert not measured.stopped


@pytest.mark.parametrize(
    "crowd", [Crowd(0.65, models=("small",), samples=2), Crowd(0.65)], ids=["one", "two"]
)
def test_a_bad_small_model_is_found_out(crowd):
    """Draws of a model that is right in 65 % agree on mistakes, two such models disagree all the time: the large model
    answers everything."""
    measured = measure(crowd, seed=1, questions=600)

    assert measured.stopped
    assert measured.cost <= 1.10
    assert abs(measured.difference) <= 0.5


def test_notes_pay_where_the_answers_to_them_are_short():
    """The votes are shown by default; a large model that answers at a quarter of its length stays as cheap."""
    measured = measure(Crowd(0.90, brevity=0.25), seed=1, questions=2400, notes=True)

    assert measured.cost <= 0.40
    assert measured.difference >= -0.5


@pytest.mark.parametrize("notes", [True, False])
def test_the_simulated_mistakes_are_those_that_were_asked_for(notes):
    """The crowd is as good as it says, also with the votes shown to the large model."""
    measured = measure(Crowd(0.90), seed=2, questions=200, audit=0.0, notes=notes)

    assert 0.91 < measured.large_accuracy < 0.98
    assert 0.08 < measured.escalated < 0.25
    assert 0 == measured.audited
