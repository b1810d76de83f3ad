"""A real SLURM on this machine: a controller and several nodes, with accounting, in one temporary folder."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ports
import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacct")
WITHIN = 60.0  # seconds for the cluster to come up
SLURM = """
ClusterName=xraylab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool.%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdTimeout=6
KillWait=5
SchedulerParameters=sched_interval=5,batch_sched_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
{accounting}
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP
PartitionName=short Nodes=ALL MaxTime=1 State=UP OverTimeLimit=0
PartitionName=urgent Nodes=ALL MaxTime=60 State=UP PriorityTier=2
"""
"""A preempted job may begin again once its credential has expired, which SLURM would let it wait for two minutes."""
ACCOUNTS = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}
AccountingStoragePass={folder}/munge.socket
"""
DATABASE = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={dbd}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadb}
StorageUser=root
StoragePass=x
StorageLoc=slurm
"""


def missing() -> str:
    """Why there can be no such cluster here; empty where there can."""
    absent = [name for name in PROGRAMS if _program(name) is None]
    if absent:
        return f"{', '.join(absent)}: not installed (Debian: munge slurmctld slurmd slurm-client)"
    return "" if os.geteuid() == 0 else "SLURM's daemons need root"


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


class SlurmCluster:
    """Each node says that it has a GPU; jobs of the partition `urgent` take the place of others, which wait again.

    `start` brings it up, `stop` ends all that it started; `environment` is for those who use it.
    """

    def __init__(self, folder: Path, nodes: int = 3, cpus: int = 1, accounting: bool = True) -> None:
        self.folder, self.cpus = folder, cpus
        self.nodes = [f"n{number + 1}" for number in range(nodes)]
        self.accounting = accounting and all(_program(name) for name in ACCOUNTING)
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        folder, host = self.folder, socket.gethostname().split(".")[0]
        controller, dbd, mariadb, *node_ports = ports.free(3 + len(self.nodes))
        accounting = ACCOUNTS.format(folder=folder, dbd=dbd) if self.accounting else ""
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus} Gres=gpu:1 "
            "State=UNKNOWN"
            for name, port in zip(self.nodes, node_ports, strict=True)
        ]
        text = SLURM.format(
            host=host, folder=folder, controller=controller, nodes="\n".join(nodes),
            accounting=accounting,
        )  # fmt: skip
        folder.chmod(0o755)
        (folder / "state").mkdir()
        (folder / "slurm.conf").write_text(text)
        (folder / "gpu0").symlink_to(os.devnull)  # SLURM wants a device, and no more of it
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu0\n")
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        self._daemon(
            "munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={folder}/munge.key",
            f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        _until((folder / "munge.socket").exists, "munged")
        if self.accounting:
            self._account(dbd, mariadb)
        self._daemon("slurmctld", "-D")
        for name in self.nodes:
            self.start_node(name)
        _until(lambda: self.states() == ["idle"] * len(self.nodes), "the nodes")

    def _account(self, dbd: int, mariadb: int) -> None:
        folder, data = self.folder, self.folder / "mariadb"
        self.call(
            "mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db",
            "--auth-root-authentication-method=normal",
        )  # fmt: skip
        self._daemon(
            "mariadbd", "--no-defaults", f"--datadir={data}", "--user=root", f"--socket={folder}/mariadb.socket",
            f"--port={mariadb}", "--bind-address=127.0.0.1", "--skip-grant-tables", f"--pid-file={folder}/mariadb.pid",
        )  # fmt: skip
        _until(lambda: _listens(mariadb), "mariadbd")
        (folder / "slurmdbd.conf").write_text(DATABASE.format(folder=folder, dbd=dbd, mariadb=mariadb))
        (folder / "slurmdbd.conf").chmod(0o600)
        self._daemon("slurmdbd", "-D")
        _until(lambda: _listens(dbd), "slurmdbd")
        self.call("sacctmgr", "--immediate", "add", "cluster", "xraylab")

    def start_node(self, name: str, **environment: str) -> None:
        self._daemon("slurmd", "-D", "-N", name, **environment)

    def kill_node(self, name: str) -> None:
        """End the daemon of a node and all that runs there, as a power cut would: none reports another's end."""
        [daemon] = [each for each in self.started if each.args[1:] == ["-D", "-N", name]]  # type: ignore[index]
        self.started.remove(daemon)
        stopped = [psutil.Process(daemon.pid)]
        stopped[0].suspend()
        while running := [each for each in psutil.process_iter() if each not in stopped and self._runs_on(each, name)]:
            for process in running:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            stopped += running
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        daemon.wait()

    def _runs_on(self, process: psutil.Process, name: str) -> bool:
        try:
            environment = process.environ()
            ours = environment.get("SLURM_CONF") == self.environment["SLURM_CONF"]
            return ours and (environment.get("SLURMD_NODENAME") == name or f"[{name}" in process.name())
        except psutil.Error:
            return False

    def states(self) -> list[str]:
        done = self.call("sinfo", "--noheader", "--Node", "--partition=main", "--format=%t", check=False)
        return done.split()

    def call(self, program: str, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [_program(program) or program, *arguments], env=os.environ | self.environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
        return done.stdout

    def _daemon(self, program: str, *arguments: str, **environment: str) -> None:
        with (self.folder / f"{program}.out").open("ab") as out:
            self.started.append(
                subprocess.Popen(
                    [_program(program) or program, *arguments],
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    env=os.environ | self.environment | environment,
                    stdout=out,
                    stderr=out,
                )
            )

    def stop(self) -> None:
        """End the jobs, then the daemons from the last one on."""
        self.call("scancel", f"--user={os.getuid()}", "--signal=KILL", "--full", check=False)
        for process in psutil.process_iter():
            if any(self._runs_on(process, name) for name in self.nodes):
                process.kill()
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.started.clear()


@contextmanager
def slurm_of(**options: Any) -> Iterator[SlurmCluster]:
    """A cluster that runs."""
    folder = Path(tempfile.mkdtemp(prefix="xraylab-slurm-"))  # munge wants every folder above to be root's
    cluster = SlurmCluster(folder, **options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WITHIN
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not up within {WITHIN:.0f} s")
        time.sleep(0.1)


if __name__ == "__main__":
    cluster = SlurmCluster(Path(sys.argv[1]))
    try:
        begin = time.monotonic()
        cluster.start()
        sys.stdout.write(f"up after {time.monotonic() - begin:.1f} s: SLURM_CONF={cluster.environment['SLURM_CONF']}\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        cluster.stop()
