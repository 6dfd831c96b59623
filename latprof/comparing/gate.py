"""A gate: run a program before and after a change in turn, and decide whether budgets are met.

Runs are taken in pairs, A B B A, so that slow changes of the machine fall on both sides. After each
pair from the first look on, the budgets are judged at a level that keeps the probability of a false
decision over all looks (`latprof.comparing.student.sequential_level`).

Two measurements show how much results vary without a change of the code. Before the pairs, base is
compared with itself. Beside all runs, a thread records how late it wakes from sleeps of 1 ms.
"""

import math
import os
import subprocess
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from latprof.comparing.budgets import EXCEEDED, MET, OPEN, Budget, parse_budgets
from latprof.comparing.compare import compare_runs
from latprof.comparing.comparison import Comparison
from latprof.comparing.differences import BETTER, WORSE
from latprof.comparing.runs import Run, RunLike, load_run, load_runs
from latprof.comparing.student import check_share, sequential_level
from latprof.errors import ProfileError
from latprof.table import Section, Shown
from latprof.text import clip, quoted
from latprof.units import format_exact, format_ns, parse_duration

__all__ = ["RECORDING", "GateResult", "gate_commands", "gate_runs"]

RECORDING = "LATPROF_RECORDING"
"""The environment variable with the path that a run writes its recording to."""

_SLEEP_NS = 1_000_000
_LAST_LINES = 12  # of the output of a command that failed, shown in the error
_LONGEST_LINE = 200  # characters of a line that is shown
_MOST_OUTPUT = 1 << 16  # bytes of a command's output that are kept


@dataclass(frozen=True, eq=False)
class GateResult(Shown):
    """The decision of a gate, and the measurements behind it.

    Attributes
    ----------
    comparison
        Base against head.
    state
        ``"met"``, ``"exceeded"`` or ``"open"``: of all budgets together.
    unfit
        Why the machine is unfit for a decision; empty if it is fit.
    itself
        Base against itself, or None if that was not measured.
    lateness_ns
        How late 1 ms sleeps ended beside the runs: p50, p99, max; empty without commands.
    looks
        The first and the last number of pairs at which the rule may decide, or None for runs
        that existed before.
    commands
        The commands of base and head, or None for runs that existed before.
    """

    comparison: Comparison
    state: str
    unfit: str = ""
    itself: Comparison | None = None
    lateness_ns: dict[str, int] = field(default_factory=dict)
    looks: tuple[int, int] | None = None
    commands: tuple[str, str] | None = None

    @property
    def status(self) -> int:
        """Exit status: 0 met, 1 exceeded, 3 open."""
        return {MET: 0, EXCEEDED: 1, OPEN: 3}[self.state]

    @property
    def sentence(self) -> str:
        """The decision in one sentence."""
        budgets = self.comparison.budgets
        if self.unfit:
            return f"no decision: {self.unfit}"
        if self.state == MET:
            return f"{'the budget is' if len(budgets) == 1 else 'all budgets are'} met"
        if self.state == EXCEEDED:
            over = [each.budget.text for each in budgets if each.state == EXCEEDED]
            return f"exceeded: {', '.join(over)}"
        unsettled = [each.budget.text for each in budgets if each.state == OPEN]
        return f"open: {', '.join(unsettled)}: too few runs, or too much noise"

    def sections(self) -> list[Section]:
        """Return what is shown: the decision, the noise, the comparison."""
        lines = []
        if self.commands is not None:
            base, head = (clip(each, _LONGEST_LINE) for each in self.commands)
            lines.append(f"base: {base}; head: {head}")
        if self.itself is not None:
            lines.append(f"base against itself: {self.itself.sentence}")
        if self.lateness_ns:
            late = ", ".join(f"{name} {format_ns(ns)}" for name, ns in self.lateness_ns.items())
            lines.append(f"sleeps of 1 ms beside the runs ended late by {late}")
        if self.looks is not None:
            first, last = self.looks
            lines.append(
                f"judged after each pair from {first} to at most {last}, at a level that allows "
                "for all these looks"
            )
        return [Section(self.sentence, tuple(lines)), *self.comparison.sections()]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON can hold."""
        return {
            "format": 1,
            "sentence": self.sentence,
            "state": self.state,
            "status": self.status,
            "unfit": self.unfit or None,
            "lateness_ns": self.lateness_ns,
            "looks": None if self.looks is None else list(self.looks),
            "commands": None if self.commands is None else list(self.commands),
            "itself": None if self.itself is None else self.itself.to_dict(),
            "comparison": self.comparison.to_dict(),
        }


def gate_runs(
    base: Sequence[Any],
    head: Sequence[Any],
    budgets: Sequence[str],
    *,
    paired: bool = True,
    confidence: float = 0.95,
) -> GateResult:
    """Judge runs that exist already.

    Parameters
    ----------
    base, head
        The runs of each side, as in `latprof.compare`.
    budgets
        Limits such as ``"end_to_end.p99<+5%"``.
    paired
        Whether run i of both sides were taken one after the other, as in `latprof.compare`.
    confidence
        Confidence of the intervals that are compared with the budgets. The runs are judged once.

    Raises
    ------
    ProfileError
        See `latprof.compare`.
    """
    parsed = _checked(budgets)
    comparison = compare_runs(
        load_runs(base, "base"),
        load_runs(head, "head"),
        paired=paired,
        budgets=parsed,
        confidence=confidence,
    )
    return GateResult(comparison, _state(comparison))


def gate_commands(
    base: str,
    head: str,
    budgets: Sequence[str],
    *,
    pairs: int = 6,
    max_pairs: int = 20,
    check_pairs: int = 2,
    warm_up: int = 1,
    timeout_s: float | None = None,
    max_lateness: str | int = "10ms",
    confidence: float = 0.95,
    keep: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] | None = None,
    run_of: Callable[[Path], RunLike] | None = None,
) -> GateResult:
    """Run two commands in turn until the budgets are decided.

    Parameters
    ----------
    base, head
        Commands for the shell. Each run must write its recording to the path in the environment
        variable ``LATPROF_RECORDING`` (a Parquet trace, or a saved profile) and end with status 0.
    budgets
        Limits such as ``"end_to_end.p99<+5%"`` or ``"decode.p50<20ms"``.
    pairs
        Pairs before the first decision, from 2 on.
    max_pairs
        Most pairs; more than `pairs` are run only while a budget is open.
    check_pairs
        Pairs of base against itself before the comparison.
    warm_up
        Runs of each command before anything is measured.
    timeout_s
        Longest time of one run, in seconds.
    max_lateness
        The machine is unfit if more than 1 % of the sleeps beside the runs end later than this.
    confidence
        1 minus the probability of a false decision on a budget, over all looks.
    keep
        An empty or new folder that the recordings are kept in: ``pair-001-base.parquet``, ...
    progress
        Called with a line before each run.
    run_of
        Called with the path of a recording for the run that it is, if the commands write tables:
        ``lambda path: ForeignFile(path, marks=["received", "sent"])``.

    Raises
    ------
    ProfileError
        A command fails, takes too long, or leaves no recording with finished frames; the message
        has its last lines. An argument is invalid.
    """
    parsed = _checked(budgets)
    for name, value, least in (
        ("pairs", pairs, 2),
        ("max_pairs", max_pairs, pairs),
        ("check_pairs", check_pairs, 0),
        ("warm_up", warm_up, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            shown = f"pairs ({least})" if name == "max_pairs" else f"{least}"
            raise ProfileError(f"{name} must be an integer, at least {shown}, got {quoted(value)}")
    check_share("confidence", confidence)
    timed = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if timeout_s is not None and not (timed and timeout_s > 0):
        raise ProfileError(f"timeout_s must be a number above 0, got {quoted(timeout_s)}")
    most_late_ns = parse_duration(max_lateness, name="max_lateness", error=ProfileError)
    level = sequential_level(1 - confidence, pairs, max_pairs)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory()) if keep is None else keep
        runs = _Commands({"base": base, "head": head}, Path(folder), timeout_s, progress, run_of)
        for name in ("base", "head"):
            for _ in range(warm_up):
                runs.run(name, "warm-up", f"{name} that does not count")
        with _Sleeper() as sleeper:
            itself = None
            if check_pairs:
                halves: tuple[list[Run], list[Run]] = ([], [])
                for pair in range(check_pairs):
                    for half in halves if pair % 2 == 0 else reversed(halves):  # A B B A
                        half.append(runs.run("base", "check", "base against itself"))
                itself = compare_runs(*halves, budgets=parsed, confidence=confidence)
            sides: dict[str, list[Run]] = {"base": [], "head": []}
            while True:
                pair = len(sides["base"]) + 1
                for name in ("base", "head") if pair % 2 else ("head", "base"):
                    sides[name].append(runs.run(name, f"pair-{pair:03}", f"pair {pair}: {name}"))
                done = len(sides["head"])
                if done < pairs:
                    continue
                comparison = compare_runs(
                    sides["base"],
                    sides["head"],
                    budgets=parsed,
                    confidence=confidence,
                    budget_level=level,
                )
                state = _state(comparison)
                if state != OPEN or done >= max_pairs:
                    break
        lateness_ns = sleeper.lateness_ns()
    unfit = _unfit(itself, lateness_ns, most_late_ns)
    looks = (pairs, max_pairs)
    decision = OPEN if unfit else state
    return GateResult(comparison, decision, unfit, itself, lateness_ns, looks, (base, head))


def _checked(budgets: Sequence[str]) -> list[Budget]:
    parsed = parse_budgets(budgets)
    if not parsed:
        raise ProfileError(
            'a gate must have at least one budget, got none; give one such as "end_to_end.p99<+5%"'
        )
    return parsed


def _state(comparison: Comparison) -> str:
    """Return the state of all budgets: exceeded if one is, met if all are."""
    states = {each.state for each in comparison.budgets}
    if EXCEEDED in states:
        return EXCEEDED
    return OPEN if OPEN in states else MET


def _unfit(itself: Comparison | None, lateness_ns: dict[str, int], most_ns: int) -> str:
    """Return why the machine is unfit, or an empty text."""
    if lateness_ns["p99"] > most_ns:
        return (
            f"the machine is busy: 1 % of the sleeps of 1 ms ended more than "
            f"{format_ns(lateness_ns['p99'])} late, and {format_exact(most_ns)} is allowed "
            "(max_lateness); stop other programs, or use another machine"
        )
    if itself is not None and itself.verdict in (WORSE, BETTER):
        return (
            f"base differs from itself ({itself.sentence}): results of the command drift; make its "
            "runs longer or more alike"
        )
    return ""


class _Commands:
    """Runs the commands, one at a time, each with a recording of its own."""

    def __init__(
        self,
        commands: dict[str, str],
        folder: Path,
        timeout_s: float | None,
        progress: Callable[[str], None] | None,
        run_of: Callable[[Path], RunLike] | None,
    ) -> None:
        self._run_of = run_of or Path
        self._commands = commands
        self._folder = folder
        self._timeout_s = timeout_s
        self._progress = progress
        self._count = 0
        self._seen: set[str] = set()  # ids of the recordings
        try:
            folder.mkdir(parents=True, exist_ok=True)
            used = any(folder.iterdir())
        except OSError as error:
            raise ProfileError(f"cannot use the folder {quoted(str(folder))}: {error}") from None
        if used:
            raise ProfileError(
                f"keep must be an empty or new folder, got {quoted(str(folder))} with files in it; "
                "name another one"
            )

    def run(self, name: str, kind: str, label: str) -> Run:
        """Run a command and return its run; the file is named after its `kind`."""
        self._count += 1
        if self._progress is not None:
            self._progress(f"run {self._count}: {label}")
        number = "" if kind.startswith("pair") else f"-{self._count:03}"
        recording = self._folder / f"{kind}{number}-{name}.parquet"
        output = self._execute(name, recording)
        if not recording.exists() or recording.stat().st_size == 0:
            raise ProfileError(
                f"{name} must write a recording to ${RECORDING}, but wrote none: "
                f"{quoted(self._commands[name])}{_last_lines(output)}"
            )
        try:
            run = load_run(self._run_of(recording), name)
        except ValueError as error:
            raise ProfileError(
                f"the recording of {name} cannot be used: {error}{_last_lines(output)}"
            ) from None
        if run.profile.recordings & self._seen:
            raise ProfileError(
                f"{name} must record anew in each run, but wrote the recording of an earlier run: "
                f"{quoted(self._commands[name])}{_last_lines(output)}"
            )
        self._seen |= run.profile.recordings
        return Run(recording.name, run.profile, None)  # without `keep` its file goes away

    def _execute(self, name: str, recording: Path) -> bytes:
        """Run a command to its end and return the end of its output."""
        environment = os.environ | {RECORDING: str(recording)}
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                self._commands[name],
                shell=True,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status: int | None = process.wait(self._timeout_s)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _end(process)
            output.seek(max(output.seek(0, os.SEEK_END) - _MOST_OUTPUT, 0))
            last = output.read()
        if status == 0:
            return last
        reason = f"ended with status {status}"
        if status is None:
            reason = f"took longer than {self._timeout_s:g} s"
        elif status < 0:
            reason = f"was ended by signal {-status}"
        raise ProfileError(f"{name} {reason}: {quoted(self._commands[name])}{_last_lines(last)}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a command that still runs, and the processes it started; do nothing if it has ended."""
    if process.poll() is None:
        import signal

        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_lines(output: bytes) -> str:
    """Return the last lines of a command's output, for a message of one line."""
    lines = output.decode("utf-8", "replace").splitlines()[-_LAST_LINES:]
    shown = " | ".join(clip(line, _LONGEST_LINE) for line in lines if line.strip())
    return f"; its last lines: {shown}" if shown else "; it printed nothing"


class _Sleeper:
    """A thread that sleeps 1 ms again and again, and records how late each sleep ends."""

    def __init__(self) -> None:
        self._late = array("q")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="latprof-sleeper", daemon=True)

    def __enter__(self) -> "_Sleeper":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        self._thread.join()

    def lateness_ns(self) -> dict[str, int]:
        """Return p50, p99 and the maximum of the lateness."""
        late = np.sort(np.array(self._late if len(self._late) else [0], np.int64))
        at = {"p50": 0.5, "p99": 0.99}
        found = {q: int(late[max(math.ceil(part * len(late)) - 1, 0)]) for q, part in at.items()}
        return found | {"max": int(late[-1])}

    def _run(self) -> None:
        while not self._stopped.is_set():
            begin = time.perf_counter_ns()
            time.sleep(_SLEEP_NS / 1e9)
            self._late.append(max(time.perf_counter_ns() - begin - _SLEEP_NS, 0))
