"""The raw results, in a JSON file that grows by what is measured and from which the page is rendered."""

import importlib.metadata
import json
import os
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.subjects import DISTRIBUTIONS


def machine():
    """Return what the figures depend on; no name by which this machine could be told from another of its kind."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _gpu():
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        return None
    return names[0].strip() or None


def versions(job):
    """Return the versions of the libraries that a job uses."""
    framework = (job["backend"] or "").split(" ")[0] or {"simpleitk": "", "ants": ""}.get(job["subject"], "torch")
    wanted = [DISTRIBUTIONS.get(job["subject"]), "numpy"]
    wanted += {"cupy": ["cupy-cuda12x", "cupy-cuda13x"]}.get(framework, [framework])
    if job["subject"] == "agnoreg" and job["device"] is None:
        wanted.append("numba")
    found = {"python": platform.python_version()}
    for name in filter(None, wanted):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class Results:
    """Records of a section, a job and its runs, on this machine and on others."""

    def __init__(self, path):
        self.path = Path(path)
        self.machines = json.loads(self.path.read_text())["machines"] if self.path.exists() else []
        self._fresh = {}

    def add(self, here, section, job, run, wanted):
        """Keep one more run of a job. Runs of an earlier session are replaced once there are as many new ones."""
        entry = self._entry(here)
        key = json.dumps([section, job], sort_keys=True)
        if key not in self._fresh:
            self._fresh[key] = []
        runs = self._fresh[key]
        runs.append(run)
        records = entry["records"]
        old = next((i for i, r in enumerate(records) if r["section"] == section and r["job"] == job), None)
        date = datetime.now(UTC).date().isoformat()
        record = {"section": section, "job": job, "runs": runs, "date": date, "versions": versions(job)}
        if old is None:
            records.append(record)
        elif len(runs) >= min(wanted, len(records[old]["runs"])) or "gradient" not in run:
            records[old] = record
        self.save()

    def put(self, here, name, table):
        """Keep a table of what was measured in whole processes, in the place of an earlier one."""
        date = datetime.now(UTC).date().isoformat()
        self._entry(here).setdefault("tables", {})[name] = asdict(table) | {"date": date}
        self.save()

    def _entry(self, here):
        """Return what there is of this machine."""
        entry = next((m for m in self.machines if m["machine"] == here), None)
        if entry is None:
            entry = {"machine": here, "records": []}
            self.machines.append(entry)
        return entry

    def save(self):
        """Write the file, all at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".part")
        fresh.write_text(self._text())
        fresh.replace(self.path)

    def _text(self):
        # One record a line, so that what changed can be read off a diff.
        machines = []
        for entry in self.machines:
            records = ",\n".join(json.dumps(record) for record in entry["records"])
            tables = ",\n".join(
                f"{json.dumps(name)}: {json.dumps(one)}" for name, one in entry.get("tables", {}).items()
            )
            machines.append(
                f'{{"machine": {json.dumps(entry["machine"])}, "records": [\n{records}\n], "tables": {{{tables}}}}}'
            )
        return '{"machines": [\n' + ",\n".join(machines) + "\n]}\n"
