"""A real Ray of several nodes on this machine, each the processes below one `ray start --block`."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import ports
import psutil

BIN = Path(sys.executable).parent
TRIES = 3
PATIENT = {"RAY_raylet_start_wait_time_s": "120"}
"""On a busy machine a node needs more than the 30 s that Ray gives it to register."""
FAST = {
    "RAY_health_check_period_ms": "300",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "1000",
}
"""A dead node is noticed after seconds, not after 20."""


class RayCluster:
    """Nodes n1 (the head), n2, ... of one core each; `address` is its dashboard's."""

    def __init__(self, **environment: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray"))  # Ray's sockets need a short path
        gcs, dashboard = ports.free(2)
        self.gcs, self.address = f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}"
        here = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        self.environment = os.environ | here | PATIENT | FAST | {"RAY_USAGE_STATS_ENABLED": "0"} | environment
        self.nodes: dict[str, psutil.Process] = {}
        self.start("n1", "--head", f"--port={gcs}", f"--dashboard-port={dashboard}", f"--temp-dir={self.folder}")

    def add(self, name: str, *flags: str, **environment: str) -> None:
        self.start(name, f"--address={self.gcs}", *flags, **environment)

    def start(self, name: str, *flags: str, **environment: str) -> None:
        """Ray gives a node up that did not register in time: it is tried again."""
        for _ in range(TRIES - 1):
            if self._started(name, flags, environment):
                return
        assert self._started(name, flags, environment), (self.folder / f"{name}.log").read_text()

    def _started(self, name: str, flags: tuple[str, ...], environment: dict[str, str]) -> bool:
        common = ["--node-ip-address=127.0.0.1", "--num-cpus=1", "--object-store-memory=80000000"]
        any_port = ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [BIN / "ray", "start", "--block", f"--node-name={name}", *common, *any_port, *flags],
                env=self.environment | environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.nodes[name] = psutil.Process(process.pid)
        end = time.monotonic() + 180
        while name not in self.alive():
            if process.poll() is not None or time.monotonic() > end:
                self.kill(name)
                return False
            time.sleep(0.1)
        return True

    def alive(self) -> set[str]:
        """The names of the nodes that Ray takes for living ones."""
        with suppress(OSError), urllib.request.urlopen(f"{self.address}/api/v0/nodes?limit=100", timeout=10) as reply:
            nodes = json.load(reply)["data"]["result"]["result"]
            return {node["node_name"] for node in nodes if node["state"] == "ALIVE"}
        return set()

    def kill(self, name: str) -> None:
        """As a power cut would: all of a node's processes at once, those of its jobs too."""
        node = self.nodes.pop(name)
        with suppress(psutil.NoSuchProcess):
            node.suspend()
            processes = [node, *node.children(recursive=True)]
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=10)

    def stop(self) -> None:
        for name in list(self.nodes)[::-1]:
            self.kill(name)
        shutil.rmtree(self.folder, ignore_errors=True)
