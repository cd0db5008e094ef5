#!/usr/bin/env python3
"""A worker for RunQL against its API, to copy and change. Python 3.9 or later, nothing else.

    RUNQL_SERVER=http://127.0.0.1:8000 python3 examples/worker.py worker-001-demo

A server that asks for tokens wants one with the scope WORKER, in the variable RUNQL_TOKEN.

It takes tasks whose problem id begins with `demo-`, one at a time; `work` below is what it does with them. While it
works, a thread tells the server that the task lives and hears when to stop. docs/workers.md describes each call.
"""
import datetime
import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

URL = os.environ.get("RUNQL_SERVER", "http://127.0.0.1:8000").rstrip("/") + "/graphql"
TASK = "jobs { id attempt command { ... on TaskCommand { problemId parameters } } }"


class Refused(Exception):
    """The server understood, and does not do it: the task is no longer this worker's, a value is wrong."""


class Stopped(Exception):
    """The task is to end: somebody cancelled it, or its time is up."""


def call(field, input_type, answer, value, patience=float("inf")):
    """Calls a mutation; while the server is away again and again, until `patience` is over (in seconds)."""
    query = f"mutation($input: {input_type}!) {{ {field}(input: $input) {{ {answer} errors {{ code message }} }} }}"
    body = json.dumps({"query": query, "variables": {"input": value}}).encode()
    headers = {"content-type": "application/json"}
    if os.environ.get("RUNQL_TOKEN"):
        headers["authorization"] = "Bearer " + os.environ["RUNQL_TOKEN"]
    deadline, pause = time.monotonic() + patience, 0.1
    while True:
        try:
            request = urllib.request.Request(URL, body, headers)
            with urllib.request.urlopen(request, timeout=min(patience, 90)) as response:
                payload = json.load(response)
            if "errors" in payload:
                raise OSError(payload["errors"][0]["message"])
            payload = payload["data"][field]
            break
        except (OSError, ValueError) as error:  # no connection, no answer in time, a server that just starts
            wrong = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if wrong:  # a token that is missing or not good enough, another kind of server
                raise OSError(f"{error}: {error.read().decode(errors='replace')}") from None
            if time.monotonic() + pause > deadline:
                raise
            print(f"{field}: {error}; again in {pause:.1f} s", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(pause * 2, 5)
    if payload["errors"]:
        raise Refused("{code}: {message}".format(**payload["errors"][0]))
    return payload


class Job:
    """One attempt at a task: what to do, whether to stop, and how to tell how it goes."""

    def __init__(self, worker, task, lease):
        self.worker, self.id, self.attempt, self.lease = worker, task["id"], task["attempt"], lease
        self.problem, self.parameters = task["command"]["problemId"], task["command"]["parameters"]
        self.stop, self.over = threading.Event(), threading.Event()

    def report(self, **what):
        """Tells lines, progress or the result. The attempt's number keeps a late report from a later attempt."""
        report = {"workerId": self.worker, "jobId": self.id, "attempt": self.attempt, **what}
        call("report", "ReportInput", "job { id }", report)

    def log(self, message, level="INFO", **more):
        """Tells a line, and with `progress={"current": 1, "total": 3, "step": "…"}` how far the task is."""
        if self.stop.is_set():
            raise Stopped()
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        self.report(logs=[{"timestamp": now, "level": level, "message": message}], **more)

    def watch(self):
        """Renews the lease until the task is over. The answer waits, and comes at once when the task is to stop."""
        beat = {"workerId": self.worker, "jobIds": [self.id], "waitMs": 20_000}
        while not self.over.is_set():
            try:
                stop = call("heartbeat", "HeartbeatInput", "stopJobIds", beat, self.lease * 0.8)["stopJobIds"]
            except (Refused, OSError):
                stop = [self.id]  # not heard for almost a lease: soon the server gives the task to another worker
            if stop:
                self.stop.set()
                self.over.wait(1)


def work(job):
    """What this worker does: replace it. What it returns is the job's output, what it raises is why the job failed."""
    if "fail" in job.parameters:
        raise ValueError(job.parameters["fail"])
    steps, total = job.parameters.get("steps", 3), 0
    for step in range(1, steps + 1):
        if job.stop.wait(job.parameters.get("pause", 0.1)):  # the work itself: a sleep that hears the stop
            raise Stopped()
        total += step
        job.log(f"step {step} of {steps}", progress={"current": step, "total": steps, "step": f"adding {step}"})
    return {"problem": job.problem, "total": total}


def run(job):
    """Works on a task to its end, whatever that is, and reports it."""
    threading.Thread(target=job.watch, daemon=True).start()
    leaving = False
    try:
        try:
            result = {"success": True, "output": work(job)}
        except Stopped:
            result = {"success": False, "error": "stopped"}
        except SystemExit:
            leaving, result = True, {"success": False, "error": "the worker was shut down"}
        except Refused:
            raise
        except Exception as error:
            result = {"success": False, "error": f"{type(error).__name__}: {error}"}
        job.report(result=result)
    except Refused as error:
        print(f"{job.id}: {error}", file=sys.stderr, flush=True)
    finally:
        job.over.set()
    if leaving:
        sys.exit(0)


def main(name):
    worker = {"name": name, "backendType": "demo", "capabilities": {"supportedProblems": ["demo-*"]}}
    registered = call("registerWorker", "RegisterWorkerInput", "worker { id } leaseMs", worker)
    worker = registered["worker"]["id"]
    print(f"registered as {name}", file=sys.stderr, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while True:
            try:
                tasks = call("claim", "ClaimInput", TASK, {"workerId": worker, "waitMs": 30_000})["jobs"]
            except Refused as error:  # no room: a task of an earlier life, until its lease is over
                print(error, file=sys.stderr, flush=True)
                time.sleep(1)
                continue
            for task in tasks:
                run(Job(worker, task, registered["leaseMs"] / 1000))
    finally:
        call("heartbeat", "HeartbeatInput", "stopJobIds", {"workerId": worker, "status": "OFFLINE"}, patience=3)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "worker-001-demo")
