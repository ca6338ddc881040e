"""Dataflow instead of stages, at scale: thirty pipelines of ten steps, in virtual time."""

from statistics import fmean

from tests.pipelines import pipelines

SEEDS = range(30)


def test_no_pipeline_waits_for_another():
    """304 agents: the run takes as long as its longest chain and not a moment more, for each of thirty draws."""
    runs = [pipelines(seed) for seed in SEEDS]

    assert {304} == {run.agents for run in runs}
    assert all(abs(run.speedup - run.ideal) < 0.01 for run in runs)
    assert fmean(run.speedup for run in runs) >= 16.5
    assert all(run.speedup > 1.25 * run.barrier for run in runs)
