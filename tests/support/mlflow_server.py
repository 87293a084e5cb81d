"""An MLflow server on 127.0.0.1: those requests of its REST API that the client makes to log a run, as the real one answers.

With HEADSTART_TEST_MLFLOW, the path of a Python that has the whole of MLflow, the tests run against the real one as well.
"""

import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

API, ARTIFACTS = "/api/2.0/mlflow/", "/api/2.0/mlflow-artifacts/artifacts/"
NAME = re.compile(r"[/\w.\- :]+")  # of a metric or a parameter


class MlflowServer:
    """Experiments, runs and files. refuse: what a path begins with -> a status, once set."""

    def __init__(self):
        self.experiments, self.runs, self.files, self.requests, self.refuse = {}, {}, {}, [], {}
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"server_state": self}))
        self.http.daemon_threads, self.http.block_on_close = True, False
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=[0.02], daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: MlflowServer

    def log_message(self, *_):
        pass

    def answer(self, status, value):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def read(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def handle_any(self):
        state, body, path = self.server_state, self.read(), self.path.partition("?")[0]
        state.requests.append((self.command, path))
        for beginning, status in state.refuse.items():
            if path.startswith(beginning):
                return self.answer(status, {"error_code": "BAD_REQUEST", "message": "no room"})
        if self.command == "PUT" and path.startswith(ARTIFACTS):
            state.files[path.removeprefix(ARTIFACTS)] = body
            return self.answer(200, {})
        query = dict(pair.split("=", 1) for pair in self.path.partition("?")[2].split("&") if pair)
        asked = json.loads(body) if body else query
        if path.startswith(API):
            return self.serve(path.removeprefix(API), asked)
        self.answer(404, {"error_code": "ENDPOINT_NOT_FOUND", "message": "no such endpoint"})

    do_GET = do_POST = do_PUT = handle_any

    def serve(self, what, asked):
        state = self.server_state
        if what == "experiments/search":
            return self.answer(200, {"experiments": [self.experiment(name) for name in state.experiments]})
        if what == "experiments/get-by-name":
            name = asked["experiment_name"]
            if name not in state.experiments:
                return self.answer(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"no experiment {name}"})
            return self.answer(200, {"experiment": self.experiment(name)})
        if what == "experiments/create":
            state.experiments[asked["name"]] = str(len(state.experiments) + 1)
            return self.answer(200, {"experiment_id": state.experiments[asked["name"]]})
        if what == "runs/create":
            run_id = uuid.uuid4().hex  # the client remembers places by it
            tags = {tag["key"]: tag["value"] for tag in asked.get("tags", [])}
            run = {"name": asked["run_name"], "experiment": asked["experiment_id"], "status": "RUNNING", "tags": tags}
            state.runs[run_id] = {**run, "params": {}, "metrics": []}
            return self.answer(200, {"run": self.run(run_id)})
        if what == "runs/get":
            return self.answer(200, {"run": self.run(asked["run_id"])})
        if what == "runs/log-batch":
            run = state.runs[asked["run_id"]]
            for entry in (*asked.get("metrics", []), *asked.get("params", [])):
                if not NAME.fullmatch(entry["key"]):
                    return self.answer(400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "bad name"})
            run["params"] |= {param["key"]: param["value"] for param in asked.get("params", [])}
            run["metrics"] += asked.get("metrics", [])
            return self.answer(200, {})
        if what == "runs/update":
            state.runs[asked["run_id"]]["status"] = asked["status"]
            return self.answer(200, {"run_info": self.run(asked["run_id"])["info"]})
        self.answer(404, {"error_code": "ENDPOINT_NOT_FOUND", "message": "no such endpoint"})

    def experiment(self, name):
        number = self.server_state.experiments[name]
        place = f"mlflow-artifacts:/{number}"
        return {"experiment_id": number, "name": name, "artifact_location": place, "lifecycle_stage": "active"}

    def run(self, run_id):
        run = self.server_state.runs[run_id]
        info = {
            "run_id": run_id,
            "run_uuid": run_id,
            "run_name": run["name"],
            "experiment_id": run["experiment"],
            "status": run["status"],
            "artifact_uri": f"mlflow-artifacts:/{run['experiment']}/{run_id}/artifacts",
            "lifecycle_stage": "active",
        }
        return {"info": info, "data": {}, "inputs": {}}


class RealServer:
    """MLflow's own server, in a folder."""

    def __init__(self, python, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [python, "-m", "mlflow", "server", "--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/db"]
        command += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.url}/health").close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("MLflow's server does not start")

    def close(self):
        self.process.terminate()
        self.process.wait()
