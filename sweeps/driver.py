"""The sweep as its driver knows it: what Ray's hooks report goes into the results, to MLflow and to the display.

Ray Tune only dispatches: which trials exist and what became of them is in ``results.parquet``, and a trial's own
state is in its checkpoints, so a sweep that is killed loses nothing that was finished.
"""

import time
from collections import defaultdict, deque
from dataclasses import replace
from typing import Any

from robustcore import storage
from robustcore.storage import Folder
from sweeps.assignment import assignment_of, new_record
from sweeps.budget import Purse
from sweeps.earlier import kept_advice, paid_for
from sweeps.ending import Ending
from sweeps.gallery import Gallery
from sweeps.progress import Display
from sweeps.repeats import due_repeats
from sweeps.results import Evaluation, Results, TrialRecord
from sweeps.saving import Saving
from sweeps.search import Search
from sweeps.standing import Standing
from sweeps.stop_early import Stopping
from sweeps.stored import patience
from sweeps.study import Study
from sweeps.tracking import Tracker
from trainables.worker import Assignment


class Sweep:
    """Every trial from suggestion to end. ``total`` counts all there should be, earlier ones included, repeats not."""

    def __init__(self, study: Study, results: Results, total: int, tracker: Tracker, display: Display) -> None:
        self.study = study
        self.results = results
        self.folder = Folder(study.storage).at(study.name).kept(patience())
        self.ending = Ending()
        self._gallery = Gallery(study, self.folder)
        self._total = total
        self.purse = Purse(study)
        self._tracker, self._display = tracker, display
        advice = kept_advice(study)
        self._search, self._paid = Search(study, advice), paid_for(advice)
        self._failures: dict[str, str] = {}
        self._complete: set[str] = set()
        self._judged: set[str] = set()
        self._put_off: set[str] = set()  # the budget is spent, or storage is lost: a later process goes on with them
        self._stopping = Stopping(study, results.records.values()) if study.stop_early else None
        self._saving = Saving(results)
        # All of these are known from the results; kept, for going through thousands of trials at each event is slow.
        self._standing = Standing(study.objectives, study.feasible)
        self._asked = 0  # trials that the sampler has suggested
        self._originals: dict[str, TrialRecord] = {}  # by recipe: the trial that stands for it
        self._copies: dict[str, list[TrialRecord]] = defaultdict(list)  # by trial: who waits for its result
        self._moved: list[TrialRecord] = []  # since they were last shown
        for record in results.records.values():
            self._note(record)
            if not record.repeat_of:
                self._search.remember(record)
        for record in list(results.records.values()):
            if record.state == "running" and record.reason:
                self.ended(record.trial)  # it was told to stop
        self._unfinished = deque(
            record
            for record in results.records.values()
            if record.state in ("pending", "running") and not record.copy_of
        )

    def next_assignment(self) -> Assignment | None:
        """The next trial to run: first those an earlier process left unfinished, after the search the repeats.

        None when there is none now; where ``has_repeats`` says so, there may be when the running ones have ended.
        """
        while not self.ending.reason and not self.purse.over():
            if self._unfinished:
                return self._assignment(self._unfinished.popleft())
            if self._asked >= self._total:
                return self._repeats()
            record = self._suggested()
            if record.state == "pending" and not record.copy_of:
                return self._assignment(record)
        return None

    def has_repeats(self) -> bool:
        """Whether what runs now decides about trials to come: the front candidates run again with other seeds."""
        is_over = self.ending.reason or self.purse.over()
        return self.study.search.seeds > 1 and bool(self.unfinished()) and not is_over

    def started(self, trial: str) -> None:
        """The trial has a place to run on, maybe not for the first time."""
        record = self.results.records[trial]
        record.state = "running"
        record.started = record.started or time.time()
        self.purse.started(trial)
        self._changed(record)
        self._saving.save(self.folder)
        self._tracker.start_trial(record)
        self._show()

    def goes_on(self, trial: str, result: dict[str, Any]) -> bool:
        """Whether the trial is worth its further steps; asked before ``evaluated`` hears of the result.

        Repeats are measurements: to stop the unlucky ones would leave the mean to the lucky.
        """
        record, step = self.results.records[trial], result["step"]
        if result["failure"] or result["final"]:
            return True
        if self.purse.stops():
            self._put_off.add(trial)
            return False
        if self._stopping is None or record.repeat_of:
            return True
        if not self._stopping.remember(record, step, result["metrics"]):
            return True
        self._judged.add(trial)  # the verdict is not to be made twice, on what may then be known
        if self._stopping.goes_on(record, step, result["metrics"]):
            return True
        record.reason = f"among the worse at step {step}"
        return False

    def evaluated(self, trial: str, result: dict[str, Any]) -> None:
        """A result of the trial; one that says why it failed, or lost its storage, carries no new metrics."""
        record = self.results.records[trial]
        record.device = result["device"]
        self.purse.note()
        for note in result["notes"]:
            self.happened(trial, note)
        if result["lost"]:
            self._put_off.add(trial)
            self.ending.ask(f"trial {trial} could not go on: {result['lost']}")
            return
        if result["failure"]:
            self._failures[trial] = result["failure"]
            if result["traceback"]:
                self.folder.at(f"trials/{trial}").write("error.txt", result["traceback"].encode())
                self._failures[trial] += f" (see {self.folder.at(f'trials/{trial}/error.txt').uri})"
            return
        if result["final"]:
            self._complete.add(trial)
        evaluation = Evaluation(result["step"], result["metrics"], result["seconds"])
        if self._stopping and result["final"] and not record.repeat_of:
            self._stopping.remember(record, evaluation.step, evaluation.metrics)
        if record.record(evaluation):
            record.samples, record.flags = result["samples"], result["flags"]
            self._changed(record)
            self._tracker.evaluate(record, evaluation)
            if trial in self._judged or self._saving.is_due():
                self._judged.discard(trial)
                self._saving.save(self.folder)
            self._show()

    def ended(self, trial: str, error: str = "") -> None:
        """The trial is over: failed for ``error`` or its own reason, finished, or stopped before its last step."""
        record = self.results.records[trial]
        self.purse.ended(trial)
        reason = self._failures.pop(trial, "") or error
        if trial in self._put_off and not reason:
            return
        if reason:
            record.state, record.reason = "failed", reason
        elif trial in self._complete:
            record.state = "finished"
        else:
            record.state, record.reason = "stopped", f"among the worse at step {record.step}"
        self._settle(record)
        for copy in self._copies.pop(trial, []):
            self._copy(copy, record)
        self._saving.save(self.folder)
        self._draw(at_once=False)
        self._show()

    def show_ending(self) -> None:
        """Said at once: trials that run may take a while."""
        self._display.say(str(self.ending))

    def happened(self, trial: str, note: str) -> None:
        """Something happened to the trial that does not change its numbers, and that one should know."""
        record = self.results.records[trial]
        if note not in record.notes:
            record.notes.append(note)
            self._saving.changed(record)
            self._display.say(f"trial {trial}: {note}")

    def close(self) -> None:
        """Everything that was put off. A sweep that ends early waits for its storage no more."""
        if self.ending.taken_over():
            return
        if self.ending.reason:
            self.folder = replace(self.folder, patience=0)
        try:
            self._saving.save_all(self.folder)
        except OSError as error:
            self.ending.ask(f"the results could not be saved: {storage.reason(error)}")
        self.purse.keep()
        self._draw(at_once=True)
        if self.is_complete():  # else this is no front to be remembered
            self._tracker.note_intervals(self.front(), self.study.objectives)
        self._tracker.redraw(self.purse.metrics(), len(self.results.records), {})
        for record in self.unfinished():
            if record.state == "running":
                self._tracker.end_trial(record)
        self._show()

    def is_complete(self) -> bool:
        """Whether a later ``resume`` would find nothing to do, or nothing to spend."""
        if self.unfinished() or (self.study.search.seeds > 1 and self.ending.reason):
            return False
        return self._asked >= self._total or bool(self.purse.over())

    def cut_short(self) -> str:
        """That the budget is spent, where there is something left to spend it on."""
        return self.purse.over() if self.unfinished() or self._asked < self._total else ""

    def unfinished(self) -> list[TrialRecord]:
        """Trials that a later ``resume`` has to go on with."""
        return [record for record in self.results.records.values() if record.state in ("pending", "running")]

    def front(self) -> list[TrialRecord]:
        """The front of the finished trials."""
        return self._standing.members

    def _note(self, record: TrialRecord) -> None:
        """A trial that is new here."""
        if not record.repeat_of:
            self._asked += 1
        if not record.copy_of:
            self._originals.setdefault(record.recipe_hash, record)
        elif record.state == "pending":
            self._copies[record.copy_of].append(record)
        self._standing.add(record, self.results.records.values())
        self._changed(record)

    def _repeats(self) -> Assignment | None:
        """The first of a round of repeats, which begins when everything before it has ended."""
        if self.study.search.seeds == 1 or self.unfinished():
            return None
        due = due_repeats(self.results.records.values(), self.study)
        for record in due:
            self.results.records[record.trial] = record
            self._note(record)
        self._unfinished.extend(due)
        return self._assignment(self._unfinished.popleft()) if due else None

    def _suggested(self) -> TrialRecord:
        """A new record in the results: pending, or already settled where its recipe is known or impossible."""
        knobs, sampler = self._search.ask()
        record = new_record(self.study, self._asked, knobs, sampler)
        twin = self._originals.get(record.recipe_hash)
        self.results.records[record.trial] = record
        self._search.watch(record)
        if record.state != "failed" and twin is not None:
            record.copy_of = twin.trial
        self._note(record)
        if record.state == "failed":
            self._settle(record)
        elif twin is not None and twin.state not in ("pending", "running"):
            self._copies[twin.trial].remove(record)
            self._copy(record, twin)
        return record

    def _copy(self, record: TrialRecord, twin: TrialRecord) -> None:
        """The same knobs are not paid for twice."""
        record.state, record.evaluations, record.device = twin.state, list(twin.evaluations), twin.device
        record.samples, record.flags = twin.samples, twin.flags
        outcome = f": {twin.reason}" if twin.reason else ", whose result it takes"
        record.reason = f"the same knobs as trial {twin.trial}{outcome}"
        self._settle(record)

    def _settle(self, record: TrialRecord) -> None:
        self._standing.add(record, self.results.records.values())
        self._changed(record)
        if not record.repeat_of:
            self._search.tell(record)
        if record.copy_of or not record.started:
            self._tracker.start_trial(record)
            for evaluation in record.evaluations:
                self._tracker.evaluate(record, evaluation)
        self._tracker.end_trial(record)

    def _assignment(self, record: TrialRecord) -> Assignment:
        return assignment_of(record, self.study, self.folder, self._paid.get(record.recipe_hash, ""))

    def _changed(self, record: TrialRecord) -> None:
        self._moved.append(record)
        self._saving.changed(record)

    def _show(self) -> None:
        moved, self._moved = self._moved, []
        self._display.update(self.results.records.values(), self._tracker.warning or self.purse.over(), moved)

    def _draw(self, at_once: bool) -> None:
        """The front's numbers always, its pictures now and then."""
        standing = self._standing
        files = self._gallery.draw(self.results.records.values(), standing.members, at_once)
        self._tracker.update_front(standing.members, standing.hypervolume, standing.finished, files)
