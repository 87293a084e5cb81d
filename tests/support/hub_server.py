"""A hub on 127.0.0.1, with the requests of the Hugging Face hub: repositories, branches, commits, and large files (LFS).

Written after huggingface_hub's own client (hf_api, _commit_api, lfs): it answers what that reads.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

TOKEN = "hf_test_token"
LICENSES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "other")  # some of the hub's names


class HubServer:
    """Repositories: commits {sha: {path: content}} and branches {name: sha} of each. refuse: a path's status, once set."""

    def __init__(self):
        self.repositories, self.large, self.requests, self.refuse = {}, {}, [], {}
        handler = type("Bound", (Handler,), {"hub": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads, self.http.block_on_close = True, False
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=[0.02], daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def files(self, repo, revision="main"):
        repository = self.repositories[repo]
        return repository["commits"][repository["branches"].get(revision, revision)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_):
        pass

    def answer(self, status, content=b"", **headers):
        if not isinstance(content, bytes):
            content, headers = json.dumps(content).encode(), {**headers, "Content-Type": "application/json"}
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def handle_any(self):
        body = self.read_body()
        path = self.path.partition("?")[0]
        self.hub.requests.append((self.command, path, dict(self.headers), body))
        for beginning, status in self.hub.refuse.items():
            if path.startswith(beginning):
                return self.answer(status, {"error": "no"}, X_Error_Message="no")
        routes = {
            ("POST", r"/api/repos/create"): self.create,
            ("POST", r"/api/validate-yaml"): self.validate,
            ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/branch/(?P<branch>[^/]+)"): self.branch,
            ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)"): self.preupload,
            ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch"): self.batch,
            ("PUT", r"/lfs/(?P<oid>\w+)"): self.put,
            ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)"): self.commit,
            ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/revision/(?P<revision>[^/]+)"): self.info,
            ("GET", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)"): self.resolve,
        }
        for (method, pattern), route in routes.items():
            if self.command.replace("HEAD", "GET") == method and (match := re.fullmatch(pattern, path)):
                return route(body, **match.groupdict())
        self.answer(404, {"error": f"no {path}"}, X_Error_Code="RepoNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def is_known(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def create(self, body):
        if not self.is_known():
            return self.answer(401, {"error": "Invalid credentials"})
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in self.hub.repositories:
            return self.answer(409, {"error": "exists", "url": f"{self.hub.url}/{name}"})
        first = hashlib.sha1(name.encode()).hexdigest()
        private = asked.get("private", asked.get("visibility") == "private")
        self.hub.repositories[name] = {
            "commits": {first: {".gitattributes": b""}},
            "branches": {"main": first},
            "private": private,
        }
        self.answer(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def validate(self, body):
        """Whether a card's front matter is YAML, with a task and a licence that the hub knows."""
        content = json.loads(body)["content"]
        front = yaml.safe_load(content.split("---")[1])
        is_right = front["pipeline_tag"] == "image-classification" and front.get("license", "other") in LICENSES
        errors = [] if is_right else [{"message": "not as the hub wants it"}]
        self.answer(200 if is_right else 400, {"errors": errors, "warnings": []})

    def branch(self, body, repo, branch):
        branches = self.hub.repositories[repo]["branches"]
        if branch in branches:
            return self.answer(409, {"error": "exists"})
        branches[branch] = branches["main"]
        self.answer(200, {})

    def preupload(self, body, repo, revision):
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".onnx") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self.answer(200, {"files": files})

    def batch(self, body, repo):
        objects = [
            {
                "oid": item["oid"],
                "size": item["size"],
                **(
                    {}
                    if item["oid"] in self.hub.large
                    else {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}", "header": {}}}}
                ),
            }
            for item in json.loads(body)["objects"]
        ]
        self.answer(200, {"transfer": "basic", "objects": objects})

    def put(self, body, oid):
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.large[oid] = body
        self.answer(200)

    def commit(self, body, repo, revision):
        if repo not in self.hub.repositories or not self.is_known():
            return self.answer(403, {"error": "not yours"}, X_Error_Message="not yours")
        repository = self.hub.repositories[repo]
        files = dict(self.hub.files(repo, revision))
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
        sha = hashlib.sha1(body + repr(len(repository["commits"])).encode()).hexdigest()
        repository["commits"][sha], repository["branches"][revision] = files, sha
        url = f"{self.hub.url}/{repo}/commit/{sha}"
        self.answer(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def info(self, body, repo, revision):
        if repo not in self.hub.repositories or (self.hub.repositories[repo]["private"] and not self.is_known()):
            return self.answer(401, {"error": "no"}, X_Error_Code="RepoNotFound")
        repository = self.hub.repositories[repo]
        sha = repository["branches"].get(revision, revision)
        if sha not in repository["commits"]:
            return self.answer(404, {"error": "no"}, X_Error_Code="RevisionNotFound")
        siblings = [{"rfilename": path} for path in repository["commits"][sha]]
        self.answer(200, {"id": repo, "sha": sha, "siblings": siblings, "gated": False, "cardData": {}})

    def resolve(self, body, repo, revision, file):
        content = self.hub.files(repo, revision).get(file)
        if content is None:
            return self.answer(404, b"", X_Error_Code="EntryNotFound")
        self.answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=revision)
