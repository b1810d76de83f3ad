"""The jobs of a session: handed over to the engine, asked after, and handed over again where they were lost."""

import asyncio
import sys
from pathlib import Path

from xraylab import files
from xraylab.errors import MissingError, XraylabError
from xraylab.jobs import environment, node, snapshot
from xraylab.jobs.board import Board
from xraylab.jobs.channel import Channel
from xraylab.jobs.engines.engine import FINAL, Command, Engine, State, Status
from xraylab.jobs.node import Report
from xraylab.jobs.session import Session, Submitted
from xraylab.paths import Paths

POLL = 2.0  # seconds between two looks at the jobs
PAUSES = (5.0, 15.0, 45.0, 120.0)  # seconds until an engine that gives no answer is asked again
IDLE = 3  # attempts in a row without a finished epoch, after which a job is given up
AGAIN = {State.LOST, State.TIMEOUT}
TAIL = 12  # lines of a failed job's log


class Watch:
    """Looks after the jobs of a session, and keeps `board` up to date."""

    def __init__(self, paths: Paths, session: Session, machines: Engine, board: Board) -> None:
        self.paths, self.session, self.machines, self.board = paths, session, machines, board
        self.channel = Channel.open(paths.root, f"{session.study}/{session.name}")

    def submit(self, names: list[str]) -> None:
        """Hand jobs over, for the first time or again."""
        session = self.session
        versions = environment.versions(self.paths.root / "constraints.txt")
        commands = [_command(session, each, versions) for each in names]
        session.save()
        for each, id_ in zip(names, self.machines.submit(commands, session.resources, session.folder), strict=True):
            job = session.jobs[each]
            job.id, job.state, job.node, job.reason = id_, State.PENDING, None, ""
            job.attempts, job.epoch_before = job.attempts + 1, job.epoch
        session.save()

    async def look(self) -> None:
        """Ask the engine and the channel once, and submit again what was lost."""
        statuses = await self._statuses([job.id for job in self.session.live.values() if job.id is not None])
        await asyncio.to_thread(self._note, statuses)
        self.board.update()
        await asyncio.to_thread(self._end_where_refused)

    async def _statuses(self, ids: list[str]) -> dict[str, Status]:
        """How jobs stand. Errors: XraylabError where the engine gives no answer for minutes."""
        for pause in PAUSES:
            try:
                return await asyncio.to_thread(self.machines.status, ids)
            except MissingError:
                raise
            except XraylabError as error:
                self.board.print(f"{error.headline}; asked again in {pause:.0f} s")
                await asyncio.sleep(pause)
        try:
            return await asyncio.to_thread(self.machines.status, ids)
        except XraylabError as error:
            raise XraylabError(
                f"{error.headline}; submitted jobs go on: {self.session.way_back}", error.problems
            ) from None

    def _note(self, statuses: dict[str, Status]) -> None:
        live = self.session.live
        for each, job in live.items():
            if job.id is None:
                continue
            status = statuses[job.id]
            job.state, job.node, job.reason = status.state, status.node or job.node, status.reason
            if job.state != State.PENDING:
                self._hear(each, job)
            if job.state in FINAL:
                self._keep_log(each, job)
        lost = [each for each, job in live.items() if job.state in AGAIN or job.id is None]
        if again := [each for each in lost if _worth_another(live[each])]:
            self.board.update()
            self.submit(again)
        self.session.save()

    def _end_where_refused(self) -> None:
        """Errors: XraylabError where the first nodes to answer have other versions than this machine; no job goes on.

        Once a job has begun, a node that has others fails its own job, and holds no other back.
        """
        answers = [report for report in self.board.reports.values() if report.doing != "starting"]
        begun = any(job.epoch or job.state == State.DONE for job in self.session.jobs.values())
        if begun or not answers or any(report.doing != "refused" for report in answers):
            return
        live = self.session.live
        self.machines.cancel([job.id for job in live.values() if job.id is not None])
        for job in live.values():
            job.state = State.CANCELLED
        end(self.paths, self.session)
        first, *lines = answers[0].problem.splitlines()
        raise XraylabError(f"{first}; no job has begun, and all are cancelled", [line.strip(" -") for line in lines])

    def _hear(self, each: str, job: Submitted) -> None:
        """What the node reports. Its word on the end counts: an engine forgets, and shared jobs fail together."""
        tree = self.channel.read_json(node.report_name(each))
        if tree is None:
            return
        report = self.board.reports[each] = Report(**tree)
        job.epoch = max(job.epoch, report.epoch)
        if job.state in FINAL and report.doing == "done":
            job.state = State.DONE
        elif job.state == State.LOST and report.doing in ("failed", "refused"):
            job.state = State.FAILED

    def _keep_log(self, each: str, job: Submitted) -> None:
        text = self.channel.read(node.log_name(each)) or self.machines.log(job.id or "", self.session.folder)
        if text:
            files.write_text(text + "\n", self.log(each))

    def forget(self, each: str) -> None:
        """Remove the resume states of a trial, which has ended."""
        Channel.open(self.paths.root, self.session.study).remove([each])

    def log(self, each: str) -> Path:
        """Where the log of a job is kept once it has ended."""
        return self.session.logs / f"{each}.log"

    def told(self, each: str) -> str:
        """How a job stands, with the end of its log."""
        job, path = self.session.jobs[each], self.log(each)
        lines = path.read_text(encoding="utf-8").splitlines()[-TAIL:] if path.is_file() else []
        where = f" on {job.node}" if job.node else ""
        reason = f" ({job.reason})" if job.reason and job.reason != job.state else ""
        return "\n      ".join(
            [f"{each}: {job.state}{where}{reason}" + (f", whose log {path} ends with" if lines else ""), *lines]
        )


def _command(session: Session, each: str, versions: dict[str, str]) -> Command:
    job, resources = session.jobs[each], session.resources
    told = node.NodeJob(
        stages=job.stages, changes=job.changes, gpu_bytes=job.gpu_bytes, name=each, repository=session.repository,
        commit=session.commit, ref=session.ref, study=session.study, session=session.name, size=session.size,
        versions=versions, scratch=session.scratch, jobs_per_gpu=resources.jobs_per_gpu,
    )  # fmt: skip
    return Command(each, (sys.executable, "-m", "xraylab.jobs.node", told.to_json()), resources.threads)


def _worth_another(job: Submitted) -> bool:
    """Whether an attempt has finished an epoch more than those before, or is not yet the third that has not."""
    job.idle = 0 if job.epoch > job.epoch_before else job.idle + 1
    return job.idle < IDLE


def end(paths: Paths, session: Session) -> None:
    """Nothing of the session stays on the remotes but the resume states of unfinished runs."""
    if session.ended:
        return
    session.ended = True
    session.save()
    Channel.open(paths.root, session.study).remove([session.name])
    snapshot.remove(paths.root, session.repository, session.ref)
