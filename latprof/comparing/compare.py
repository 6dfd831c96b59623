"""Compares two sets of runs: which statistics are worse, better, the same, or unclear.

The unit of evidence is the run, not the frame: frames of one run share the state of the machine,
so that an interval from inside a run says nothing of the difference between two runs of the same
code. Runs that were taken in turn are compared in pairs, which removes what both runs of a pair
share.
"""

from collections.abc import Iterable, Sequence

from latprof.comparing.budgets import Budget, judged, parse_budgets
from latprof.comparing.comparison import Comparison
from latprof.comparing.differences import Difference, adjusted
from latprof.comparing.runs import MISSES, Run, RunLike, condition_notes, load_runs
from latprof.comparing.student import check_share
from latprof.errors import ProfileError
from latprof.profile.span import check_percentiles
from latprof.text import quoted

__all__ = ["compare", "compare_runs"]


def compare(
    base: "RunLike | Iterable[RunLike]",
    head: "RunLike | Iterable[RunLike]",
    *,
    paired: bool = True,
    budgets: Sequence[str] = ("end_to_end.p99<+5%",),
    percentiles: Sequence[float] = (50, 90, 99),
    margin: float = 0.05,
    confidence: float = 0.95,
    by: str | None = None,
) -> Comparison:
    """Compare runs before a change with runs after it.

    Parameters
    ----------
    base, head
        The runs of each side: a trace, a profile, a path of either, or a list of these. A folder
        has a run for each recording: files of one recording, and recordings that overlap in time,
        are one run. Of a glob only files of one recording are one.
    paired
        Whether run i of `base` and run i of `head` were taken one after the other. Pairs are the
        best evidence: what the machine does to both runs of a pair cancels out.
    budgets
        Limits such as ``"end_to_end.p99<+5%"`` or ``"decode.p50<20ms"``. Their statistics are
        tested as they are; the first one is the headline. All other rows are tested together
        (Holm's correction).
    percentiles
        The percentiles to compare, 0 to 100.
    margin
        Both sides are the same if the whole interval of the change is within this part: 0.05 for
        5 %. Above 0 and below 1.
    confidence
        Confidence of the intervals, above 0 and below 1.
    by
        ``"source"``, ``"outcome"`` or a tag: also report the part that its mix has in the change.

    Returns
    -------
    Comparison
        Its sentence, its verdict, its table.

    Raises
    ------
    ProfileError
        No run, a run without frames, a different number of runs a side with `paired`, or another
        argument is invalid.
    TraceError
        A file is missing or is not a trace.

    Notes
    -----
    Paired runs: Student's t interval of the mean logarithm of the ratio. Its standard error is at
    least that of the intervals from inside the runs. For ``"worse"`` and ``"better"`` a sign-flip
    test (Fisher 1935) must agree, if there are enough pairs for one. Unpaired runs: Welch's
    interval, with the run as the unit. One run a side gives differences with intervals from inside
    the runs; all verdicts are ``"unclear"``.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Pipeline, Trace, compare
    >>> def run(seed, slower):
    ...     start = np.arange(500) * 1_000_000
    ...     took = np.random.default_rng(seed).integers(90_000, 110_000, 500) * slower
    ...     marks = {"start": start, "work": start, "end": start + took.astype(np.int64)}
    ...     return Trace(Pipeline.chain("p", "work"), frame_id=np.arange(500), marks=marks)
    >>> result = compare([run(i, 1.0) for i in range(6)], [run(i + 6, 1.2) for i in range(6)])
    >>> result.verdict, round(result["end_to_end", "mean"].ratio, 2)
    ('worse', 1.2)
    """
    return compare_runs(
        load_runs(base, "base", by=by),
        load_runs(head, "head", by=by),
        paired=paired,
        budgets=parse_budgets(budgets),
        percentiles=percentiles,
        margin=margin,
        confidence=confidence,
    )


def compare_runs(
    base: Sequence[Run],
    head: Sequence[Run],
    *,
    paired: bool = True,
    budgets: Sequence[Budget] = (),
    percentiles: Sequence[float] = (50, 90, 99),
    margin: float = 0.05,
    confidence: float = 0.95,
    budget_level: float | None = None,
) -> Comparison:
    """Compare loaded runs: see `compare`.

    `budget_level` is the level of the tests of budgets, instead of ``1 - confidence``; a rule that
    looks several times needs a smaller one.
    """
    check_share("margin", margin)
    check_share("confidence", confidence)
    if paired and len(base) != len(head):
        raise ProfileError(
            f"base and head must have the same number of runs to be paired, got {len(base)} and "
            f"{len(head)}; give both of each pair, or compare without pairs (paired=False, "
            "--unpaired)"
        )
    qs = check_percentiles(percentiles, "percentiles")
    wanted = {float(each.key[1][1:]) for each in budgets if each.key[1].startswith("p")}
    qs = sorted({*map(float, qs), *wanted})
    known = set.intersection(*({*run.keys(qs)} for run in (*base, *head)))
    keys = [key for key in base[0].keys(qs) if key in known]
    for budget in budgets:
        if budget.key not in known:
            span = budget.key[0]
            of_span = [statistic for name, statistic in keys if name == span]
            usable = of_span or dict.fromkeys(name for name, _ in keys)
            kind = f"statistic of {span}" if of_span else "span"
            raise ProfileError(
                f"budget {quoted(budget.text)} must name a {kind} that all runs have; use "
                f"{', '.join(usable)}"
                + ("" if budget.key[1] != MISSES else ", with a deadline for misses")
            )
    given = {each.key for each in budgets}
    headline = budgets[0].key if budgets else ("end_to_end", "p99")
    if headline not in known:
        headline = ("end_to_end", "mean")
    level = 1 - confidence
    found = [Difference.of(key, base, head, paired=paired) for key in keys]
    tested = [each for each in found if each is not None]
    plain = given or {headline}
    levels = [(budget_level or level) if each.key in plain else level for each in tested]
    p_values = adjusted(tested, plain)
    rows = tuple(
        each.row(at, p, margin) for each, at, p in zip(tested, levels, p_values, strict=True)
    )
    by_key = {each.key: each for each in tested}
    return Comparison(
        tuple(base),
        tuple(head),
        rows,
        tuple(judged(each, by_key.get(each.key), budget_level or level) for each in budgets),
        tuple(condition_notes(base, head)),
        paired,
        confidence,
        margin,
        headline,
        1 - (budget_level or level),
    )
