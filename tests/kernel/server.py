"""A server in a control group that was handed over to it, driven over its API: `server.py RUNQL`."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

GROUPS = pathlib.Path("/sys/fs/cgroup")
URL = "http://127.0.0.1:8000/graphql"


def ask(query, **variables):
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(URL, body, {"content-type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=60))
    assert "errors" not in answer, answer
    return answer["data"]


def ended(command):
    ran = ask(
        "mutation ($input: RunInput!) { run(input: $input) { job { id } errors { message } } }",
        input={"command": {"shell": {"command": command}}},
    )["run"]
    assert ran["job"], ran
    while True:
        job = ask(
            "query ($id: ID!) { job(id: $id) { status error { code message } stdout"
            " logs(first: 50, filter: { streams: [SYSTEM] }) { nodes { message } } } }",
            id=ran["job"]["id"],
        )["job"]
        if job["status"] not in ("PENDING", "RUNNING"):
            return job
        time.sleep(0.05)


def start(runql, group, *flags):
    """Starts a server inside of a group, as systemd does."""
    folder = tempfile.mkdtemp()
    into = f"echo $$ > {group}/cgroup.procs && exec {runql} serve --allow shell --workers 2 " + " ".join(flags)
    server = subprocess.Popen(["bash", "-c", into], cwd=folder)
    while True:
        try:
            urllib.request.urlopen("http://127.0.0.1:8000/ready", timeout=5)
            return server
        except (urllib.error.URLError, ConnectionError):
            assert server.poll() is None, "the server did not start"
            time.sleep(0.1)


def main():
    service = GROUPS / "service"
    service.mkdir()
    limits = ["--job-cgroup auto", "--job-memory 64MiB", "--job-processes 30", "--job-cpus 0.5"]
    server = start(sys.argv[1], service, *limits)
    assert (service / "runql-server/cgroup.procs").read_text().split() == [str(server.pid)]

    job = ended("grep ^0:: /proc/self/cgroup")
    assert job["stdout"].startswith(f"0::/service/runql-job-{server.pid}-"), job
    # Two at once, each of which is allowed by itself.
    job = ended("for n in 1 2 3; do python3 -c 'x = bytearray(b\"x\") * (40 << 20); input()' < /dev/zero & done; wait -n; exit $?")
    assert job["error"]["message"].endswith("used up its memory of 67108864 bytes (--job-memory)"), job
    job = ended("exec dash -c 'for n in $(seq 100); do sleep 1000 & done; wait'")
    said = [line["message"] for line in job["logs"]["nodes"]]
    assert job["status"] == "FAILED" and any("--job-processes" in line for line in said), job
    assert ended("echo well")["status"] == "COMPLETED"

    # Killed while it works, it leaves groups behind; the next one removes them.
    ask('mutation { run(input: { command: { shell: { command: "sleep 1000" } } }) { job { id } } }')
    while not any(b"sleep\0" in line for line in commands(service)):
        time.sleep(0.05)
    server.kill()
    server.wait()
    while any(commands(service)):
        time.sleep(0.05)
    left = [entry.name for entry in service.glob("runql-job-*")]
    # Now that it hands controllers on, nothing can be put into the group itself.
    server = start(sys.argv[1], service / "runql-server", *limits)
    assert left and not any((service / name).exists() for name in left), left
    server.terminate()
    assert server.wait() == 0
    assert list(service.glob("runql-job-*")) == []

    # A user without rights on the group is told.
    home = tempfile.mkdtemp()
    os.chown(home, 1000, 1000)
    refused = subprocess.run(
        [sys.argv[1], "serve", "--job-cgroup", service, "--job-memory", "64MiB"],
        cwd=home, capture_output=True, text=True, user=1000, group=1000, timeout=60, env={},
    )
    assert refused.returncode == 1 and "has to belong to the server's user" in refused.stderr, refused


def commands(service):
    for procs in service.glob("runql-job-*/cgroup.procs"):
        for pid in procs.read_text().split():
            try:
                yield pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                pass


main()
print("the server passed")
