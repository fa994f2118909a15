"""The front under attack again, at full strength: finished trials -> certificates beside what the search measured.

Everything that is done is a file (see ``claims``), so a run that was killed goes on where it was. The next hop is
``sweeps.certify.tasks``.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

from rich.console import Console

from robustcore.storage import Folder
from sweeps import wording
from sweeps.certified import certified_front, fallen, flags_of
from sweeps.certify.claims import Claim, claim_of, images
from sweeps.certify.display import CertifyDisplay
from sweeps.certify.strength import Strength
from sweeps.certify.tasks import measured
from sweeps.lock import locked
from sweeps.pareto import contenders, front, front_hypervolume
from sweeps.report import front_files
from sweeps.results import Certificate, Results, TrialRecord
from sweeps.seeds import averaged
from sweeps.session import ray_session
from sweeps.stored import RequestError, launched_study, patience, stored_results
from sweeps.study import Study
from sweeps.tracking.place import tracker_of


@dataclass
class Certification:
    """A study's trials, those of the front with certificates; ``failures`` say by trial why there is none."""

    study: Study
    folder: Folder
    results: Results
    asked: list[str] = field(default_factory=list)  # the trials, in the order of the front
    failures: dict[str, str] = field(default_factory=dict)
    warning: str = ""

    @property
    def records(self) -> list[TrialRecord]:
        """All trials."""
        return list(self.results.records.values())

    @property
    def certified(self) -> list[TrialRecord]:
        """The trials that were asked for and have a certificate now, each for all its seeds."""
        found = {record.trial: record for record in averaged(self.records)}
        return [found[trial] for trial in self.asked if found[trial].certificate is not None]

    def fallen(self) -> dict[str, str]:
        """Who is on the front no more, and why."""
        return fallen(self.records, self.study.objectives, self.study.feasible)

    def joining(self) -> list[str]:
        """Who is on the certified front, and was not on the searched one."""
        asked = (self.records, self.study.objectives, self.study.feasible)
        before = {record.trial for record in front(*asked)}
        return [record.trial for record in certified_front(*asked) if record.trial not in before]


def certify_study(folder: Folder, strength: Strength, address: str, console: Console) -> Certification:
    """Attack the front and its runners-up again. Raises RequestError, or InputError before anything starts."""
    study = launched_study(folder)
    with locked(folder, study.name):
        done = Certification(study, folder, stored_results(folder))
        claims = _claims(done, strength)
        done.asked = [claim.trial for claim in claims]
        _forget_others(done, strength)
        _attack(done, claims, address, console)
        _publish(done)
    return done


def _claims(done: Certification, strength: Strength) -> list[Claim]:
    study, records = done.study, done.results.records
    near = contenders(records.values(), study.objectives, study.feasible)
    if not near:
        raise RequestError(f"no finished trial of '{study.name}' is on the front, so there is nothing to certify")
    # Of trials that differ in their seed alone, the first stands for all.
    return [claim_of(study, done.folder, records[record.trial], strength) for record in near]


def _forget_others(done: Certification, strength: Strength) -> None:
    """Certificates of another attack, or of other images, cannot stand beside these; their files remain."""
    for record in done.records:
        if record.certificate is not None:
            claim = claim_of(done.study, done.folder, record, strength)
            if (claim.attacks, claim.samples) != (record.certificate.attacks, record.certificate.samples):
                record.certificate = None


def _attack(done: Certification, claims: Sequence[Claim], address: str, console: Console) -> None:
    """Run what is missing of the claims; each is settled as soon as it is complete."""
    left = {claim.trial: claim.missing() for claim in claims}
    todo = [part for parts in left.values() for part in parts]
    total = sum(images(claim.parts) for claim in claims)
    with ExitStack() as stack:
        head = stack.enter_context(ray_session(address)) if todo else None
        name = done.study.name
        display = stack.enter_context(CertifyDisplay(name, total, total - images(todo), len(claims), console))
        for claim in claims:
            if not left[claim.trial]:
                _settle(done, claim, display)
        by_trial = {claim.trial: claim for claim in claims}
        for part, failure in measured(todo, done.study.resources, head):
            rest = left[part.trial]
            rest.remove(part)
            if failure and part.trial not in done.failures:
                done.failures[part.trial] = failure
                display.ended(part.trial, f"failed: {failure}", images([part, *rest]))
            elif not failure and part.trial not in done.failures:
                display.saw(images([part]))
                if not rest:
                    _settle(done, by_trial[part.trial], display)


def _settle(done: Certification, claim: Claim, display: CertifyDisplay) -> None:
    record, certificate = done.results.records[claim.trial], claim.certificate()
    assert certificate is not None, "a claim is settled when no part is missing"
    record.certificate = certificate
    record.certificate = replace(certificate, flags=_flags(done, record, certificate))
    done.folder.kept(patience()).patiently(done.results.save)
    found = ", ".join(f"{name} {wording.metric(name, value)}" for name, value in _objectives(done, certificate).items())
    display.ended(claim.trial, f"certified: {found}")


def _flags(done: Certification, record: TrialRecord, certificate: Certificate) -> dict[str, str]:
    """The certificate's own, and what it says of the searched numbers."""
    new = flags_of(record, done.study.objectives)
    return certificate.flags | {name: sentence for name, sentence in new.items() if name not in record.flags}


def _objectives(done: Certification, certificate: Certificate) -> dict[str, float]:
    return {name: certificate.metrics[name] for name in done.study.objectives if name in certificate.metrics}


def _publish(done: Certification) -> None:
    """The results, the pictures, and MLflow."""
    study, records = done.study, done.records
    done.folder.kept(patience()).patiently(done.results.save)
    members = front(records, study.objectives, study.feasible)
    files = front_files(records, members, study.objectives, study.name, study.feasible)
    with suppress(OSError):  # a picture is drawn again, and no reason to end here
        for name, content in files.items():
            done.folder.write(name, content)
    tracker, gone = tracker_of(study), done.fallen()
    for record in records:
        if record.certificate is not None:
            tracker.certify(record, _tags(record, record.certificate, gone))
    kept = certified_front(records, study.objectives, study.feasible)
    volume = front_hypervolume(kept, study.objectives, study.feasible)
    finished = sum(record.state == "finished" for record in records)
    tracker.redraw({"certified/hypervolume": volume}, finished, files)
    done.warning = tracker.close(None)


def _tags(record: TrialRecord, certificate: Certificate, gone: dict[str, str]) -> dict[str, str]:
    return {
        "certified.attack": json.dumps(certificate.attacks),
        "certified.samples": json.dumps(certificate.samples),
        "certified.flags": json.dumps(certificate.flags),
        "certified.flagged": str(bool(certificate.flags)).lower(),
        "certified.fallen": gone.get(record.trial, "no"),
    }
