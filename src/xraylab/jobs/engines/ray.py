"""Ray, through its Jobs API: a command is a job that outlives the caller and holds its share of one node.

Ray gives a job up that has waited for 15 minutes (RAY_JOB_START_TIMEOUT_SECONDS of its head), stops none that still
waits (ray-project/ray#58353), and has no time limits. So a job that was given up is submitted again, as its next turn;
a job without resources notes which waiting ones are cancelled; and the node's `timeout` ends what runs too long.
"""

import json
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xraylab import files
from xraylab.errors import DataError, MissingError, XraylabError
from xraylab.jobs.engines.engine import FINAL, Command, Resources, State, Status

GRACE = 30  # seconds to end in good order
TAIL = 16_384  # characters of a log
MANY = 10_000  # nodes to list
OVER_TIME = 124  # the exit code of `timeout`; 137 where the command had to be killed
LIMITED = (
    "start=$(date +%s); timeout --kill-after={grace} {seconds} {command}; code=$?; "
    "if [ $code = 137 ] && [ $(($(date +%s) - start)) -ge {seconds} ]; then exit 124; fi; exit $code"
)
STATES = {
    "PENDING": State.PENDING,
    "RUNNING": State.RUNNING,
    "SUCCEEDED": State.DONE,
    "STOPPED": State.CANCELLED,
    "FAILED": State.FAILED,
}
GIVEN_UP = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
LOST = {
    "JOB_SUPERVISOR_ACTOR_DIED",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE",
    "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE",
}
ARGUMENTS = {
    "memory": "entrypoint_memory",
    "resources": "entrypoint_resources",
    "label_selector": "entrypoint_label_selector",
    "runtime_env": "runtime_env",
}
"""Options that are handed on to Ray's submit_job, as JSON."""
OWN = ("address", "autoscaler", "python")
"""The others. `python`: the interpreter on the nodes, where it has another path than that of the caller."""

Json = dict[str, Any]


class Ray:
    """An id is the address of the cluster's dashboard and the name of the job there: it says whom to ask."""

    def check(self, resources: Resources) -> None:
        """Errors: MissingError without ray; DataError where no node has what a job needs, or an option is unknown."""
        arguments, autoscaler = _arguments(resources), _autoscaler(resources)
        with _cluster(resources.options.get("address")) as client:
            nodes = [node for node in _nodes(client) if node.state == "ALIVE"]
        needed = _needed(arguments)
        fitting = (all(node.resources_total.get(name, 0) >= needed[name] for name in needed) for node in nodes)
        if not any(fitting) and not autoscaler:
            raise DataError(
                f"no node of the Ray cluster has what a job needs ({_listed(needed)}); ask for less, start such a node,"
                " or, where an autoscaler will, add --ray autoscaler=yes. Its nodes:",
                [f"{node.node_name}: {_listed(node.resources_total)}" for node in nodes],
            )

    def submit(self, commands: Sequence[Command], resources: Resources, folder: Path) -> list[str]:
        """Submit each as a job; where one is refused, the earlier ones are cancelled."""
        folder.mkdir(parents=True, exist_ok=True)
        ids: list[str] = []
        with _cluster(resources.options.get("address")) as client:
            try:
                for command in commands:
                    name = f"{command.name}-{secrets.token_hex(4)}"
                    _submit(client, name, _entrypoint(command, resources), _arguments(resources, command.environment))
                    ids.append(f"{client.get_address()}/{name}")
            except BaseException:
                self.cancel(ids)
                raise
        return ids

    def status(self, ids: Sequence[str]) -> dict[str, Status]:
        """How each job stands; a job that Ray gave up while it waited is submitted again and goes on waiting."""
        return {id_: status for address, names in _grouped(ids).items() for id_, status in _stand(address, names)}

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop those that run, and keep those that wait from running for more than a moment."""
        for address, names in _grouped(ids).items():
            with _cluster(address) as client:
                jobs = _newest(client.list_jobs())
                live = [name for name in names if name in jobs and _state(jobs[name]) not in FINAL]
                if waiting := [name for name in live if _state(jobs[name]) == State.PENDING]:
                    client.submit_job(entrypoint=":", metadata={"xraylab_cancelled": " ".join(waiting)})
                for name in live:
                    client.stop_job(jobs[name].submission_id)

    def log(self, id_: str, folder: Path) -> str:
        """The end of what the job printed; all of it is copied into `folder`, where it outlives the node."""
        address, _, name = id_.rpartition("/")
        copy = folder / f"{name}.log"
        with suppress(XraylabError), _cluster(address) as client:
            job = _newest(client.list_jobs()).get(name)
            if job and job.driver_node_id:
                text = client.get_job_logs(job.submission_id)
                lines = [line for line in text.splitlines(keepends=True) if not _of_ray(line)]
                files.write_text("".join(lines), copy)
        return copy.read_text(encoding="utf-8")[-TAIL:].strip() if copy.is_file() else ""


def _stand(address: str, names: list[str]) -> Iterator[tuple[str, Status]]:
    with _cluster(address) as client:
        listed = client.list_jobs()
        jobs, cancelled = _newest(listed), _cancelled(listed)
        nodes = {node.node_id: node.node_name for node in _nodes(client)}
        for name in names:
            yield f"{address}/{name}", _status(client, jobs.get(name), name in cancelled, nodes)


def _status(client: Any, job: Any, cancelled: bool, nodes: dict[str, str]) -> Status:
    if job is None:
        return Status(State.LOST, None, "Ray knows it no longer: was the cluster started anew?")
    if cancelled:
        return Status(State.CANCELLED, None, "cancelled before it started")
    if job.error_type == GIVEN_UP:
        _submit_again(client, job)
        return Status(State.PENDING, None, "waits for resources")
    state = _state(job)
    return Status(state, nodes.get(job.driver_node_id), _reason(state, job))


def _state(job: Any) -> State:
    if job.error_type in LOST:
        return State.LOST
    if job.driver_exit_code == OVER_TIME and "timeout" in job.metadata:
        return State.TIMEOUT
    return State.PENDING if job.error_type == GIVEN_UP else STATES[job.status.value]


def _reason(state: State, job: Any) -> str:
    """The reason for the state, in a line; of a failed command its exit code, since `log` has the rest."""
    if state == State.TIMEOUT:
        return f"ended at its limit of {job.metadata['timeout']} min"
    if job.driver_exit_code:
        return f"exit code {job.driver_exit_code}"
    lines = [line.strip() for line in (job.message or "").splitlines() if line.strip()]
    return "" if state == State.DONE or not lines else lines[-1]


def _entrypoint(command: Command, resources: Resources) -> str:
    """The command as the node's shell takes it, within its time limit."""
    program, *rest = command.arguments
    line = shlex.join([resources.options.get("python", program) if program == sys.executable else program, *rest])
    return LIMITED.format(command=line, seconds=int(60 * resources.minutes), grace=GRACE) if resources.minutes else line


def _arguments(resources: Resources, environment: dict[str, str] | None = None) -> Json:
    """What submit_job takes. Errors: DataError where an option is unknown or no JSON, or Ray has no such thing."""
    if resources.partition:
        raise DataError("Ray has no partitions: leave --partition out; --ray label_selector=... chooses nodes")
    if resources.jobs_per_gpu > 1 and resources.gpus != 1:
        raise DataError("--jobs-per-gpu shares one GPU between jobs: add --gpus-per-job 1")
    arguments: Json = {"entrypoint_num_cpus": resources.cores}
    arguments |= {"entrypoint_num_gpus": resources.gpus / resources.jobs_per_gpu} if resources.gpus else {}
    for key, text in resources.options.items():
        if key not in OWN:
            arguments |= _argument(key, text)
    runtime_env = arguments.get("runtime_env", {})
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE)} | runtime_env.get("env_vars", {}) | (environment or {})
    limit = {"timeout": str(resources.minutes)} if resources.minutes else {}
    return arguments | {"runtime_env": runtime_env | {"env_vars": variables}, "metadata": limit}


def _autoscaler(resources: Resources) -> bool:
    text = resources.options.get("autoscaler", "no")
    if text not in {"yes", "no"}:
        raise DataError(f"--ray autoscaler={text}: must be yes or no")
    return text == "yes"


def _argument(key: str, text: str) -> Json:
    """An option, under the name of submit_job's argument. Errors: DataError where there is none, or it is no JSON."""
    if key not in ARGUMENTS:
        known = ", ".join([*OWN, *ARGUMENTS])
        raise DataError(f"--ray {key}: unknown option; there are {known}")
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, int if key == "memory" else dict):
        wanted = "a whole number of bytes" if key == "memory" else "a JSON object"
        raise DataError(f"--ray {key}={text}: must be {wanted}")
    return {ARGUMENTS[key]: value}


def _needed(arguments: Json) -> dict[str, float]:
    """Ray's names of resources, and how much of each a job takes."""
    needed = {
        "CPU": arguments["entrypoint_num_cpus"],
        "GPU": arguments.get("entrypoint_num_gpus", 0),
        "memory": arguments.get("entrypoint_memory", 0),
        **arguments.get("entrypoint_resources", {}),
    }
    return {name: amount for name, amount in needed.items() if amount}


def _listed(resources: dict[str, float]) -> str:
    hidden = ("node:", "object_store")
    shown = (name for name in sorted(resources) if not name.startswith(hidden))
    return ", ".join(f"{name} {resources[name]:.12g}" for name in shown)


def _submit(client: Any, name: str, entrypoint: str, arguments: Json, turn: int = 1) -> None:
    """Each turn of a job has a name of its own in Ray; what another turn needs beside it is in its metadata."""
    shares = {key: value for key, value in arguments.items() if key.startswith("entrypoint_")}
    metadata = arguments["metadata"] | {"xraylab_job": name, "turn": str(turn), "shares": json.dumps(shares)}
    turn_name = name if turn == 1 else f"{name}.{turn}"
    client.submit_job(submission_id=turn_name, entrypoint=entrypoint, **arguments | {"metadata": metadata})


def _submit_again(client: Any, job: Any) -> None:
    arguments = json.loads(job.metadata["shares"]) | {"runtime_env": job.runtime_env, "metadata": job.metadata}
    name, turn = job.metadata["xraylab_job"], int(job.metadata["turn"]) + 1
    with suppress(RuntimeError):  # another caller was faster
        _submit(client, name, job.entrypoint, arguments, turn)


def _newest(listed: list[Any]) -> dict[str, Any]:
    """The newest turn of each job that was submitted here."""
    ours = [job for job in listed if job.metadata and "xraylab_job" in job.metadata]
    return {job.metadata["xraylab_job"]: job for job in sorted(ours, key=lambda job: int(job.metadata["turn"]))}


def _cancelled(listed: list[Any]) -> set[str]:
    notes = ((job.metadata or {}).get("xraylab_cancelled", "") for job in listed)
    return {name for note in notes for name in note.split()}


def _of_ray(line: str) -> bool:
    return line.startswith("Running entrypoint for job ") or "\tINFO job_manager.py:" in line


def _grouped(ids: Sequence[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for id_ in ids:
        address, _, name = id_.rpartition("/")
        grouped.setdefault(address, []).append(name)
    return grouped


def _nodes(client: Any) -> list[Any]:
    from ray.util.state import list_nodes  # noqa: PLC0415 - an extra

    nodes: list[Any] = list_nodes(address=client.get_address(), limit=MANY)
    return nodes


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """A client of the cluster at the address, else at RAY_ADDRESS, else of the one that runs on this machine.

    Errors: MissingError without ray; XraylabError with Ray's words where the cluster cannot be reached or refuses.
    """
    client_of = _client_class()
    with _preferred(address):
        try:
            yield client_of(address)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            asked = address or os.environ.get("RAY_ADDRESS")
            where = f"at {asked}" if asked else "of this machine"
            raise XraylabError(
                f"the Ray cluster {where} gave no answer, or refused; --ray address=http://HEAD:8265 (or RAY_ADDRESS)"
                " names its dashboard, and `ray start --head` starts one",
                [str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__],
            ) from None


def _client_class() -> Callable[[str | None], Any]:
    try:
        from ray.job_submission import JobSubmissionClient  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingError("--on ray needs Ray, which is not installed: pip install 'xraylab[ray]'") from None
    return JobSubmissionClient


@contextmanager
def _preferred(address: str | None) -> Iterator[None]:
    """Let Ray's clients take the address that they are given: they prefer that of the environment."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    if address:
        os.environ[name] = address
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
