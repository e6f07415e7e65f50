#!/usr/bin/env python3
"""kutover's `exec` provisioner over Terraform (docs/provisioners.md): one JSON object in, one out.

The Terraform configuration is beside this file. State, variables and logs of each colour are in
$KUTOVER_TERRAFORM/DEPLOYMENT-COLOUR. $TERRAFORM names the program, `terraform` if it is not set; `tofu` will do.

An apply can take longer than kutover waits for one command, and must not be killed half way. So it runs in the
background under a lock, and until it has ended the reply is `pending`: kutover asks again.
"""

import fcntl
import json
import os
import pathlib
import subprocess
import sys

CONFIGURATION = pathlib.Path(__file__).resolve().parent
TERRAFORM = os.environ.get("TERRAFORM", "terraform")


def reply(**words):
    print(json.dumps(words))
    sys.exit(0)


def fail(why):
    print(why, file=sys.stderr)
    sys.exit(1)


class Colour:
    """One colour's directory."""

    def __init__(self, directory, lock=None):
        self.directory = directory
        self.lock = lock
        directory.mkdir(parents=True, exist_ok=True)

    def path(self, name):
        return self.directory / name

    def load(self, name):
        try:
            return json.loads(self.path(name).read_text())
        except FileNotFoundError:
            return None

    def save(self, name, value):
        whole = self.path(name + ".new")
        whole.write_text(json.dumps(value))
        whole.replace(self.path(name))

    def terraform(self, *words):
        environment = dict(os.environ, TF_DATA_DIR=str(self.path("data")), TF_IN_AUTOMATION="1")
        return subprocess.run(
            [TERRAFORM, f"-chdir={CONFIGURATION}", *words],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            # Should this program be killed, Terraform goes on, and holds the lock for as long.
            pass_fds=[] if self.lock is None else [self.lock],
        )

    def change(self, act):
        """Terraform's `act` on what the variables say."""
        return self.terraform(
            act, "-auto-approve", "-input=false", "-no-color",
            f"-state={self.path('state')}", f"-var-file={self.path('variables.tfvars.json')}",
        )

    def holds_something(self):
        """Whether Terraform knows of anything that it has made."""
        return bool((self.load("state") or {}).get("resources"))

    def output(self):
        """The incarnation as Terraform's state has it."""
        done = self.terraform("output", "-json", f"-state={self.path('state')}")
        if done.returncode != 0:
            fail(done.stderr.strip())
        return json.loads(done.stdout).get("incarnation", {}).get("value")

    def free(self):
        """The lock, under which nothing is begun. Replies where something is under way."""
        lock = open(self.path("lock"), "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reply(pending=f"terraform runs in {self.directory}")
        return lock

    def carry_out(self, lock, act, variables, then):
        """Under the lock, Terraform's `act` with these variables, after which `then` stands there: returns when it has been
        carried out, else replies."""
        job = {"act": act, "variables": variables, "then": then}
        ended = self.load("ended")
        if ended and ended["job"] == job:
            self.path("ended").unlink()
            if ended["status"] == 0:
                return
            if ended["undone"]:
                reply(refused=f"terraform {act} failed, and what it had made was destroyed: {ended['said']}")
            fail(f"terraform {act}: {ended['said']}")
        # The lock goes on to the process that is started: there is no moment in which nobody holds it.
        with open(self.path("log"), "a") as log:
            subprocess.Popen(
                [sys.executable, __file__, "--background", str(self.directory), json.dumps(job), str(lock.fileno())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[lock.fileno()], start_new_session=True,
            )
        reply(pending=f"terraform {act} was begun in {self.directory}")

    def stands(self, then):
        if then is None:
            self.path("there").unlink(missing_ok=True)
        else:
            self.save("there", {**then, "incarnation": self.output()})

    def background(self, job):
        self.save("variables.tfvars.json", job["variables"])
        done = self.terraform("init", "-input=false", "-no-color")
        if done.returncode == 0:
            done = self.change(job["act"])
        print(done.stdout, done.stderr, flush=True)
        undone = False
        if done.returncode != 0 and not self.load("there"):
            # A cluster that is half made is taken away again, as stacks are.
            undone = not self.holds_something() or self.change("destroy").returncode == 0
        if done.returncode == 0:
            # Here, and not when it is asked for again: whoever began it may have given up, and what stands is told of.
            self.stands(job["then"])
        errors = [line.strip("╷│╵ ") for line in done.stderr.splitlines()]
        said = " ".join(line for line in errors if line) or "it said nothing"
        self.save("ended", {"job": job, "status": done.returncode, "undone": undone, "said": said[-400:]})


def main():
    if sys.argv[1:2] == ["--background"]:
        Colour(pathlib.Path(sys.argv[2]), int(sys.argv[4])).background(json.loads(sys.argv[3]))
        return
    asked = json.load(sys.stdin)
    if asked["schema"] != "kutover.provisioner/1":
        fail(f"schema {asked['schema']} is not known here")
    names = {name: asked[name] for name in ("deployment", "colour", "suffix")}
    home = pathlib.Path(os.environ.get("KUTOVER_TERRAFORM", CONFIGURATION / "clusters"))
    colour = Colour(home / f"{asked['deployment']}-{asked['colour']}")
    # Whatever changes is decided under the lock: of two who ask at once, the second one sees what the first one has done.
    lock = colour.free() if asked["act"] != "describe" else None
    # What stands there, from when it was made until it is gone: {"request", "incarnation", "isolations"}.
    there = colour.load("there")

    match asked["act"]:
        case "provision":
            if there and there["request"] != asked["request"]:
                reply(refused=f"{there['incarnation']['id']} stands there, made by request {there['request']}")
            if not there:
                colour.carry_out(
                    lock, "apply", {**names, "isolations": []}, {"request": asked["request"], "isolations": []}
                )
                there = colour.load("there")
            reply(incarnation=there["incarnation"])
        case "describe":
            if not there:
                # What is being made is not nothing; and it may have ended since it was looked at.
                lock = colour.free()
                there = colour.load("there")
                lock.close()
                if not there and colour.holds_something():
                    reply(pending=f"what Terraform has made in {colour.directory} is no whole cluster: `provision` carries it on")
            reply(incarnation=there and there["incarnation"])
        case "isolate" | "put-back":
            if not there or there["incarnation"]["id"] != asked["incarnation"]:
                fail(f"{asked['incarnation']} is not there")
            wanted = set(there["isolations"]) - {asked["nonce"]}
            if asked["act"] == "isolate":
                wanted.add(asked["nonce"])
            if sorted(wanted) != there["isolations"]:
                then = {"request": there["request"], "isolations": sorted(wanted)}
                colour.carry_out(lock, "apply", {**names, "isolations": sorted(wanted)}, then)
            reply()
        case "destroy":
            if there and there["incarnation"]["id"] == asked["incarnation"]:
                lives = there["incarnation"].get("cluster_id", asked["cluster_id"])
                if lives != asked["cluster_id"]:
                    reply(refused=f"cluster {lives} lives there, not {asked['cluster_id']}")
                colour.carry_out(lock, "destroy", {**names, "isolations": there["isolations"]}, None)
            reply()
        case act:
            fail(f"no such act: {act}")


main()
