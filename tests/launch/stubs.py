"""Commands that are replaced by scripts which note how they were called."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.helpers import ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("gke/*.sh"), LAUNCH / "slurm.sbatch"])
COMMANDS = [path for path in SCRIPTS if path.name != "common.sh"]

NOTE = """#!{python}
import json, os, sys
call = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
stdin = sys.stdin.read() if "--filename=-" in call else ""
with open({log!r}, "a") as file:
    file.write(json.dumps([call, stdin]) + "\\n")
for part, answer in {answers!r}.items():
    if part in " ".join(call):
        print(answer)
        break
"""


class Stubs:
    """A directory of stub commands that comes first on PATH, and what they were called with."""

    def __init__(self, directory: Path, *names: str, **answers: str):
        """Each answer is printed by calls that contain its key."""
        self.directory = directory
        self.log = directory / "calls"
        for name in names:
            path = directory / name
            path.write_text(
                NOTE.format(python=sys.executable, log=str(self.log), answers=dict(answers))
            )
            path.chmod(0o755)

    def run(self, script, *arguments, timeout=60, **environment):
        """Runs a launcher with the stubs and only the given settings."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ICT_", "SLURM_", "OMPI"))}
        return subprocess.run(
            [str(LAUNCH / script), *map(str, arguments)],
            env={**kept, "PATH": f"{self.directory}:{os.environ['PATH']}", **environment},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def calls(self):
        """The calls so far: the words of each, and its standard input."""
        if not self.log.exists():
            return []
        return [tuple(json.loads(line)) for line in self.log.read_text().splitlines()]

    def words(self):
        """The words of each call."""
        return [words for words, _ in self.calls()]
