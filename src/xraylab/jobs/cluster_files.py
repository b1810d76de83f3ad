"""Files with which SkyPilot or Kubernetes runs a study's experiments, each run by `xraylab.jobs.node` as on an engine.

They need no caller that stays: what is cut off is started again by them, and goes on after its last finished epoch.
"""

import asyncio
import re
import shlex
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from xraylab import dvc_lock
from xraylab.errors import DataError
from xraylab.jobs import environment, node, preflight, repro, snapshot
from xraylab.jobs.dvc import Dvc
from xraylab.jobs.job import Job
from xraylab.paths import Paths

RUN = "@RUN@"  # stands for the name of a run, such as baseline-0
REMEDY = "dvc repro, git commit -am 'What the runs start from', and git push"
DRIVERS = {"s3": "dvc-s3", "gs": "dvc-gs", "azure": "dvc-azure", "ssh": "dvc-ssh", "oss": "dvc-oss"}
"""What DVC needs for a remote's scheme."""
HEAD = """\
# {{ runs | length }} runs of {{ repository }}
# on {{ where }}, made by `xraylab cluster-file {{ kind }}`.
#
# Before:  dvc repro {{ before }}
#          dvc push --run-cache {{ inputs }}
#          git commit -am "What the runs start from" && git push, then make this file again
# Start:   {{ start }}
# After:   dvc repro --pull     restores what the runs made, and makes the rest
#
# A run that is done already is restored, not trained again; one that was cut off goes on after its last finished
# epoch. What a run printed is on DVC's remote: {{ remote }}/xraylab/{{ study }}/{{ kind }}/<run>/log.txt
{% for folder in folders %}
# {{ folder }} is a folder: mount it on every machine under this path.
{% endfor %}
"""
SKY = """
name: {{ name }}
num_nodes: {{ nodes }}  # they share the runs
resources:
  # infra: aws/us-east-1  # left out: wherever it is cheapest
{% if gpus %}
  accelerators: L4:{{ gpus }}  # kind and number on each machine; every run gets one of them
{% endif %}
  cpus: {{ [cpus * (gpus or 1), 2] | max }}+
  disk_size: {{ disk }}  # GB
  use_spot: true  # cheaper; `sky jobs launch` starts machines that were taken away again

setup: |
  set -e
  pip install --quiet uv
  uv venv --quiet --allow-existing --python {{ python }} ~/environment
  git clone --quiet {{ quoted }} ~/study 2>/dev/null || git -C ~/study fetch --quiet
  git -C ~/study checkout --quiet {{ commit }}
  cd ~/study
  uv pip install --quiet --python ~/environment/bin/python {{ packages }}

run: |
  export PATH=~/environment/bin:$PATH OMP_NUM_THREADS={{ cpus }}
  cat > ~/job.json <<'EOF'
  {{ job }}
  EOF
  per_node=${SKYPILOT_NUM_GPUS_PER_NODE:-0}
  [ "$per_node" -gt 0 ] || per_node=1
  # one after another on each GPU; a run that fails is named, and holds no other back
  work() {
    number=0
    for run in {{ runs | join(" ") }}; do
      if [ $((number % (SKYPILOT_NUM_NODES * per_node))) = "$1" ]; then
        python -m xraylab.jobs.node "$(sed "s/{{ token }}/$run/g" ~/job.json)" || echo "FAILED: $run"
      fi
      number=$((number + 1))
    done
  }
  for gpu in $(seq 0 $((per_node - 1))); do
    CUDA_VISIBLE_DEVICES={% if gpus %}$gpu{% endif %} work $((SKYPILOT_NODE_RANK * per_node + gpu)) &
  done
  wait
"""
KUBERNETES = """
# The image, made once:
#   FROM python:{{ python }}-slim
#   RUN apt-get update && apt-get install --yes git && git clone {{ quoted }} /study
#   WORKDIR /study
#   RUN git checkout {{ commit }} && pip install {{ packages }}
# Secrets, as the remotes need them: kubectl create secret generic {{ name }} --from-env-file=FILE
# with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or those of another store.
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ name }}
data:
  runs: |
{% for run in runs %}
    {{ run }}
{% endfor %}
  job.json: |
    {{ job }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ name }}
spec:
  completionMode: Indexed  # one pod per run, which it finds by its number
  completions: {{ runs | length }}
  parallelism: {{ nodes }}  # at once
  backoffLimitPerIndex: 3  # a run that fails is tried again, and holds no other back (Kubernetes 1.33)
  # activeDeadlineSeconds: 86400  # for all runs together
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 60
      containers:
        - name: run
          image: REGISTRY/{{ name }}:{{ commit[:12] }}  # yours
          command:
            - sh
            - -c
            - >-
              run=$(sed -n "$((JOB_COMPLETION_INDEX + 1))p" /jobs/runs);
              exec python -m xraylab.jobs.node "$(sed "s/{{ token }}/$run/g" /jobs/job.json)"
          env:
            - name: OMP_NUM_THREADS
              value: "{{ cpus }}"
          envFrom:
            - secretRef:
                name: {{ name }}
                optional: true
          resources:
            requests:
              cpu: "{{ cpus }}"
              memory: {{ 8 * (gpus or 1) }}Gi
              ephemeral-storage: {{ disk }}Gi
{% if gpus %}
            limits:
              nvidia.com/gpu: "{{ gpus }}"
{% endif %}
          volumeMounts:
            - name: jobs
              mountPath: /jobs
            - name: scratch
              mountPath: /tmp
            - name: memory
              mountPath: /dev/shm
      volumes:
        - name: jobs
          configMap:
            name: {{ name }}
        - name: scratch
          emptyDir: {}
        - name: memory
          emptyDir:
            medium: Memory
"""


@dataclass(frozen=True)
class Kind:
    """A kind of file: its text after the head, where it runs, and what starts it."""

    text: str
    where: str
    start: str
    scratch: str | None = None


KINDS = {
    "sky": Kind(SKY, "machines that SkyPilot rents", "sky jobs launch FILE", "/tmp/xraylab"),  # noqa: S108 - there, not here
    "kubernetes": Kind(KUBERNETES, "a Kubernetes cluster", "kubectl apply -f FILE"),
}


@dataclass(frozen=True)
class Runs:
    """What the machines have to do: `job` of every run, with RUN in place of its name, after `before` was made here."""

    names: list[str]
    job: node.NodeJob
    before: list[str]
    inputs: list[str]
    remote: str
    packages: str


def text(paths: Paths, kind: str, nodes: int, gpus: int, cpus: int, git_remote: str) -> str:
    """The file for all runs of the study.

    Errors: DataError for an unknown kind, or where the git remote lacks what is here; XraylabError where jobs could
    not clone the study or reach its data.
    """
    if kind not in KINDS:
        raise DataError(f"there is no cluster file {kind!r}; there is {', '.join(KINDS)}")
    preflight.check(paths, git_remote, commit=False)
    return render(kind, _runs(paths, kind, git_remote), nodes, gpus, cpus)


def render(kind: str, runs: Runs, nodes: int, gpus: int, cpus: int) -> str:
    chosen, job = KINDS[kind], runs.job
    name = re.sub("[^a-z0-9]+", "-", f"xraylab-{Path(job.repository).stem}".lower()).strip("-")[:50]
    values = {
        "kind": kind, "where": chosen.where, "start": chosen.start, "runs": runs.names, "token": RUN, "name": name,
        "before": " ".join(runs.before), "inputs": " ".join(runs.inputs), "remote": runs.remote, "study": job.study,
        "repository": job.repository, "quoted": shlex.quote(job.repository), "commit": job.commit,
        "folders": [each for each in (job.repository, runs.remote) if each.startswith("/")],
        "nodes": min(nodes, len(runs.names)), "gpus": gpus, "cpus": cpus, "disk": 64 + 4 * job.size // 2**30,
        "python": job.versions["python"], "packages": runs.packages, "job": job.to_json(),
    }  # fmt: skip
    made = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)  # noqa: S701 - no HTML
    return made.from_string(HEAD + chosen.text).render(values)


def _runs(paths: Paths, kind: str, git_remote: str) -> Runs:
    graph = repro.parse_dag(asyncio.run(Dvc(paths.root).output("dag", "--dot")))
    jobs = repro.experiment_jobs(graph)
    names, inputs = [job.run for job in jobs], repro.inputs(graph, jobs)
    locked = dvc_lock.entries(paths.lock)
    if missing := [stage for stage in inputs if stage not in locked]:
        raise DataError(f"the runs start from what {', '.join(missing)} writes, which is not in dvc.lock: {REMEDY}")
    commit, repository, remote = _commit(paths.root, git_remote), *_addresses(paths.root, git_remote)
    size = sum(out.get("size", 0) for stage in inputs for out in locked[stage].get("outs") or [])
    job = node.NodeJob(
        stages=_stages(jobs), name=RUN, repository=repository, commit=commit, ref=commit,
        study=snapshot.study_id(paths.root), session=kind, size=size, scratch=KINDS[kind].scratch,
        versions=environment.versions(paths.root / "constraints.txt"),
    )  # fmt: skip
    return Runs(names, job, repro.prerequisites(graph, jobs), inputs, remote, _packages(paths.root, remote))


def _stages(jobs: list[Job]) -> tuple[str, ...]:
    """The stages of every run. Errors: DataError where runs differ in more than their names."""
    stages = {tuple(each.replace(f"@{job.run}", f"@{RUN}") for each in job.stages) for job in jobs}
    if len(stages) != 1:
        raise DataError(
            "the runs of dvc.yaml have stages of different names: only `xraylab repro --on` runs such a study"
        )
    return stages.pop()


def _commit(root: Path, git_remote: str) -> str:
    """HEAD. Errors: DataError where it is not on the git remote, or dvc.lock is not as it has it."""
    if snapshot.changed(root, []):
        raise DataError(f"dvc.lock is not as the last commit has it, which the runs clone: {REMEDY}")
    if f"{git_remote}/" not in snapshot.git(root, "branch", "--remotes", "--contains", "HEAD"):
        raise DataError(f"the runs clone the last commit from {git_remote}, which does not have it yet: git push")
    return snapshot.git(root, "rev-parse", "HEAD")


def _addresses(root: Path, git_remote: str) -> tuple[str, str]:
    """Where the runs clone from, and DVC's default remote."""
    from dvc.config import Config  # type: ignore[import-untyped] # noqa: PLC0415 - slow to import

    config = Config(dvc_dir=str(root / ".dvc"))
    return snapshot.address(root, git_remote), str(config["remote"][config["core"]["remote"]]["url"])


def _packages(root: Path, remote: str) -> str:
    """What pip installs within a clone of the study."""
    driver = DRIVERS.get(remote.partition("://")[0])
    constraints = ["--constraint", "constraints.txt"] if (root / "constraints.txt").is_file() else []
    own = "." if (root / "src/xraylab").is_dir() else f"xraylab=={version('xraylab')}"
    return " ".join([*constraints, own, *([driver] if driver else [])])
