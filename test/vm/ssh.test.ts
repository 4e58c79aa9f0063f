// The SSH channel: the same calls over SSH, and people's own ssh, scp and sftp. Who is who is proved in both directions.

import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { killPortd } from "../support/ports.js";
import { Program } from "../support/program.js";
import { SmolVM, type Vm, VmManager } from "../support/smolvm.js";
import { testState, withDatabase } from "../support/state.js";
import { eventually, rejection } from "../support/wait.js";
import { CLI_PATH } from "./cli-program.js";

const state = testState();
const config = (vmId: string) =>
  state.config({ vmId, network: "user", commChannel: "ssh", envVars: { GREETING: `it's "me" \\ #` } });

const hasOpenSsh = spawnSync("ssh", ["-V"]).status === 0;
if (!hasOpenSsh) console.log("gate: ssh-client: this host has no OpenSSH client");

const fileOf = (vm: Vm, name: string) => join(state.stateDir, "vms", vm.vmId, name);
const lanes = () => withDatabase(state.databasePath, (db) => db.prepare("SELECT * FROM lanes").all());

interface Told {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs OpenSSH's client; never asks anybody anything. */
function ssh(argv: readonly string[], env: NodeJS.ProcessEnv = {}, program = "ssh"): Told {
  return spawnSync(program, argv, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
    timeout: 60_000,
  });
}

async function sshInto(vm: Vm, ...command: readonly string[]): Promise<Told> {
  const { options, host } = await vm.ssh();
  return ssh([...options, host, ...command]);
}

let vm: Vm;
let other: Vm;

beforeAll(async () => {
  vm = await SmolVM.create(config("secure"));
  other = await SmolVM.create(config("other"));
});

afterAll(async () => {
  await Promise.all([vm?.delete(), other?.delete()]);
});

describe("the SDK over SSH", () => {
  it("runs commands as over the agent's lane, without taking one", async () => {
    await using program = await Program.start();
    const before = lanes();
    expect(await program.call("run", "secure", 'echo "$GREETING"; echo err >&2; exit 7')).toMatchObject({
      stdout: `it's "me" \\ #\n`,
      stderr: "err\n",
      exitCode: 7,
    });
    expect(lanes()).toEqual(before);
    expect(await program.call("exec", "secure", ["sh", "-c", "kill -9 $$"])).toMatchObject({ exitCode: 137 });
    const { output } = await program.call("run", "secure", "head -c 3000000 /dev/zero | tr '\\0' x");
    expect(output).toHaveLength(3_000_000);
    expect((await program.call("run", "secure", "pgrep -c sshd-session || true")).output).not.toBe("0");
  });

  it("kills what outlives its time, and everything of a program that dies", async () => {
    await vm.exec(["true"]); // The limit is for the command, not for a connection that is made anew.
    const late = rejection(vm.exec(["sleep", "4141"], { timeoutMs: 500 }));
    expect(await late).toMatchObject({ code: "COMMAND_TIMEOUT" });
    const program = await Program.start();
    void program.call("run", "secure", "echo on > /tmp/started; sleep 4242");
    await vm.run("until [ -e /tmp/started ]; do sleep 0.1; done");
    await program.kill();
    const sleepers = async () => (await vm.run("pgrep -fc '^sleep 4[12]4' || true")).output;
    await eventually(async () => ((await sleepers()) === "0" ? true : undefined));
  });

  it("serves many commands at once, and stdin", async () => {
    const texts = Array.from({ length: 20 }, (_, index) => `text ${index}`);
    const results = await Promise.all(texts.map((text) => vm.run(`sleep 0.2; echo ${text}`)));
    expect(results.map(({ output }) => output)).toEqual(texts);
    const child = vm.spawn(["tr", "a-z", "A-Z"]);
    child.stdin.end("in capitals");
    expect((await child).output).toBe("IN CAPITALS");
  });

  it("stops, starts and pauses, with the same keys and port", async () => {
    const [before, key] = [await other.ssh(), readFileSync(fileOf(other, "ssh_client_ed25519_key"), "utf8")];
    await other.pause();
    expect(await rejection(other.ssh())).toMatchObject({ code: "INVALID_STATE", details: { helps: "resume()" } });
    await other.resume();
    expect((await other.run("echo resumed")).output).toBe("resumed");
    await other.stop();
    expect(await rejection(other.ssh())).toMatchObject({ code: "INVALID_STATE", details: { helps: "start()" } });
    await other.start();
    expect((await other.run("echo again")).output).toBe("again");
    expect(await other.ssh()).toEqual(before);
    expect(readFileSync(fileOf(other, "ssh_client_ed25519_key"), "utf8")).toBe(key);
  });

  it("is reached again once the process that serves its port was killed, by those who were connected and by others", async () => {
    const { port } = await other.ssh();
    for (let time = 0; time < 2; time++) {
      await killPortd(state, other, port);
      expect((await other.run("echo reached")).output).toBe("reached");
    }
    await killPortd(state, other, port);
    await using program = await Program.start();
    expect((await program.call("run", "other", "echo reached")).output).toBe("reached");
    await killPortd(state, other, port);
    expect((await other.ssh()).port).toBe(port);
    expect(await opens("127.0.0.1", port)).toBe(true);
    expect(await rejection(other.closePort(port))).toMatchObject({
      code: "INVALID_CONFIG",
      details: { field: "hostPort" },
    });
    expect(await other.ports()).toEqual([]);
  });
});

describe("who is who", () => {
  it("refuses a guest with another host key, to a program and to ssh", async () => {
    await using program = await Program.start();
    const mine = fileOf(vm, "ssh_host_ed25519_key.pub");
    const kept = `${mine}.kept`;
    renameSync(mine, kept);
    try {
      writeFileSync(mine, readFileSync(fileOf(other, "ssh_host_ed25519_key.pub")));
      const error = await rejection(program.call("exec", "secure", ["true"]));
      expect(error).toMatchObject({ code: "SSH_FAILED", details: { reason: "host-key" } });
    } finally {
      renameSync(kept, mine);
    }
    expect((await program.call("exec", "secure", ["echo", "fine"])).output).toBe("fine");
  });

  it("refuses another VM's key, also through a program", async () => {
    await using program = await Program.start();
    const mine = fileOf(vm, "ssh_client_ed25519_key");
    const kept = `${mine}.kept`;
    renameSync(mine, kept);
    try {
      writeFileSync(mine, readFileSync(fileOf(other, "ssh_client_ed25519_key")), { mode: 0o600 });
      const error = await rejection(program.call("exec", "secure", ["true"]));
      expect(error).toMatchObject({ code: "SSH_FAILED", details: { reason: "authentication" } });
    } finally {
      renameSync(kept, mine);
    }
    // One that fails does not keep others out.
    expect((await program.call("exec", "secure", ["echo", "fine"])).output).toBe("fine");
  });

  it("listens on the guest's loopback, and on the host's", async () => {
    const { port } = await vm.ssh();
    const listeners = (await vm.run("ss -Hltn | awk '{ print $4 }'", { check: true })).output.split("\n");
    expect(listeners).toEqual(["127.0.0.1:22"]);
    const addresses = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
    for (const { address, internal, scopeid } of addresses) {
      if (internal) continue;
      const host = scopeid ? `${address}%${scopeid}` : address;
      expect(await opens(host, port), host).toBe(false);
    }
    expect(await opens("127.0.0.1", port)).toBe(true);
    const guest = (await vm.run("hostname -I", { check: true })).output.split(" ")[0];
    const gateway = (await other.run("ip route show default", { check: true })).output.split(" ")[2];
    for (const [host, number] of [
      [guest, 22],
      [gateway, port],
      ["127.0.0.1", port],
    ]) {
      const attempt = `timeout 3 bash -c 'exec 3<>/dev/tcp/${host}/${number}'`;
      expect((await other.run(attempt)).exitCode, attempt).not.toBe(0);
    }
  });

  it("keeps private keys to their owner, and lets nobody in without a key", async () => {
    const attempt = await vm.run(
      'su nobody -s /bin/sh -c \'cat /run/smolvm/ssh/sshd_config; python3 -c "import socket as s; s.socket(s.AF_UNIX).connect(\\"/run/smolvm/agent.sock\\")"\'',
    );
    expect(attempt).toMatchObject({ exitCode: 1, stdout: "", stderr: expect.stringMatching(/denied[\s\S]*denied/i) });
  });
});

describe("a VM without it", () => {
  it("says what is missing", async () => {
    await using plain = await SmolVM.create(state.config());
    expect(await rejection(plain.ssh())).toMatchObject({
      code: "UNSUPPORTED",
      hint: expect.stringMatching(/commChannel/),
    });
  });

  it("may have no network either: SSH goes over the guest channel", async () => {
    await using offline = await SmolVM.create(state.config({ vmId: "offline", network: "none", commChannel: "ssh" }));
    await using program = await Program.start();
    expect((await program.call("run", "offline", "hostname; ls /sys/class/net")).output).toBe("offline\nlo");
    if (hasOpenSsh) expect((await sshInto(offline, "hostname")).stdout).toBe("offline\n");
  });

  it("does not start without the image's sshd", async () => {
    await using broken = await SmolVM.create(config("broken"));
    await broken.run("chmod -x /usr/sbin/sshd; sync");
    await broken.stop();
    expect(await rejection(broken.start())).toMatchObject({ code: "SSH_FAILED", details: { errno: "ENOENT" } });
    expect((await broken.info()).status).toBe("error");
  });
});

describe.skipIf(!hasOpenSsh)("OpenSSH's own programs", () => {
  it("log in, run commands with the VM's environment, and copy files both ways", async () => {
    const { options, host } = await vm.ssh();
    expect(ssh([...options, host, 'echo "$GREETING"; id -un; exit 5'])).toMatchObject({
      status: 5,
      stdout: `it's "me" \\ #\nroot\n`,
    });
    const directory = join(state.stateDir, "copies with space");
    mkdirSync(directory);
    const [up, down, batch] = ["up", "down", "batch"].map((name) => join(directory, name)) as [string, string, string];
    writeFileSync(up, Buffer.alloc(1_000_000, "smolvm"));
    expect(ssh([...options, up, `${host}:/root/up`], {}, "scp")).toMatchObject({ status: 0 });
    writeFileSync(batch, `get /root/up "${down}"\n`);
    expect(ssh([...options, "-b", batch, host], {}, "sftp")).toMatchObject({ status: 0 });
    expect(readFileSync(down).equals(readFileSync(up))).toBe(true);
  });

  it("see what `environment` changes, in sessions that begin later", async () => {
    for (const LATER of ["no", "not yet"]) await vm.env.set({ LATER });
    await vm.env.set({ LATER: "yes", LINES: "one\ntwo" });
    // The server starts itself anew for it.
    const answer = await eventually(async () => {
      const told = await sshInto(vm, 'echo "$LATER $LINES"');
      return told.stdout.startsWith("yes") ? told.stdout : undefined;
    });
    expect(answer).toBe("yes \n"); // What has lines cannot be given to sshd.
    expect((await vm.run('echo "$LATER $LINES"')).output).toBe("yes one\ntwo");
  });

  it("offer the VM's key alone, whatever keys and agent the caller has", async () => {
    const directory = join(state.stateDir, "agent");
    mkdirSync(directory);
    const [socket, key] = [join(directory, "socket"), join(directory, "id_ed25519")];
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "callers-own", "-f", key]);
    const started = execFileSync("ssh-agent", ["-a", socket], { encoding: "utf8" });
    const pid = Number(/SSH_AGENT_PID=(\d+)/.exec(started)?.[1]);
    try {
      const env = { SSH_AUTH_SOCK: socket };
      execFileSync("ssh-add", ["-q", key], { env: { ...process.env, ...env } });
      const { options, host, privateKeyPath } = await vm.ssh();
      const offered = (told: Told) =>
        told.stderr.split("\n").flatMap((line) => /Offering public key: (\S+)/.exec(line)?.[1] ?? []);
      // The agent's key is offered where nothing keeps it from being.
      const bare = ["-v", "-F", "none", "-p", options.find((option) => option.startsWith("Port="))!.slice(5)];
      const unguarded = [...bare, "-o", `UserKnownHostsFile=${fileOf(vm, "ssh_known_hosts")}`, "-o", "BatchMode=yes"];
      expect(offered(ssh([...unguarded, `root@${host}`, "true"], env))).toContain("callers-own");
      const guarded = ssh(["-v", ...options, host, "ssh-add -l; echo $SSH_AUTH_SOCK"], env);
      expect(guarded).toMatchObject({ stdout: "\n" });
      expect(offered(guarded)).toEqual([privateKeyPath]);
    } finally {
      process.kill(pid);
    }
  });

  it("refuse another host key, and are refused with another key", async () => {
    const { options, host } = await vm.ssh();
    const swap = (name: string) =>
      options.map((option) => (option.includes(name) ? option.replace("/secure/", "/other/") : option));
    const changed = join(state.stateDir, "changed");
    const line = (await vm.ssh()).knownHostsLine.split(" ")[0];
    writeFileSync(changed, `${line} ${readFileSync(fileOf(other, "ssh_host_ed25519_key.pub"), "utf8")}`);
    const pinned = options.map((option) =>
      option.startsWith("UserKnownHostsFile=") ? `UserKnownHostsFile=${changed}` : option,
    );
    expect(ssh([...pinned, host, "true"]).stderr).toMatch(/HOST IDENTIFICATION HAS CHANGED[\s\S]*verification failed/);
    expect(ssh([...swap("ssh_client"), host, "true"]).stderr).toMatch(/Permission denied \(publickey\)/);
  });
});

describe.skipIf(!hasOpenSsh)("smolvm ssh", () => {
  it("connects with all of that, passes streams and the exit code, and tells other programs how", () => {
    const smolvm = (...args: readonly string[]) =>
      spawnSync(process.execPath, [CLI_PATH, "ssh", "secure", ...args], { input: "typed\n", encoding: "utf8" });
    expect(smolvm("--", "cat; hostname; exit 7")).toMatchObject({ status: 7, stdout: "typed\nsecure\n", stderr: "" });
    const config = join(state.stateDir, "ssh_config");
    writeFileSync(config, smolvm("--config").stdout);
    const plain = spawnSync("ssh", ["-F", config, "secure", "hostname"], { encoding: "utf8" });
    expect(plain).toMatchObject({ status: 0, stdout: "secure\n" });
  });
});

describe("a copy of a VM with SSH", () => {
  it("has keys and a port of its own, and goes on with what runs", async () => {
    await vm.run(
      "setsid sh -c 'while :; do date +%s%N > /dev/shm/alive; sleep 0.1; done' < /dev/null > /dev/null 2>&1 &",
      {
        orphans: "keep",
      },
    );
    const ended = new AbortController();
    const inFlight = "while :; do date +%s%N > /dev/shm/in-flight; sleep 0.1; done";
    const flying = rejection(vm.run(inFlight, { signal: ended.signal }));
    await eventually(async () => ((await vm.run("cat /dev/shm/in-flight")).ok ? true : undefined));
    if (hasOpenSsh) {
      await sshInto(
        vm,
        "nohup sh -c 'while :; do date +%s%N > /dev/shm/by-ssh; sleep 0.1; done' < /dev/null > /dev/null 2>&1 &",
      );
    }
    const [child] = await vm.fork();
    if (!child?.ok) throw child!.error;
    try {
      const [parents, childs] = [await vm.ssh(), await child.vm.ssh()];
      expect(childs.port).not.toBe(parents.port);
      expect(childs.knownHostsLine.split(" ")[2]).not.toBe(parents.knownHostsLine.split(" ")[2]);
      expect((await child.vm.run("hostname; echo $GREETING")).output).toBe(`${child.vm.vmId}\nit's "me" \\ #`);
      await expectRunning(child.vm, "/dev/shm/alive");
      await expectRunning(child.vm, "/dev/shm/in-flight");
      await expectRunning(vm, "/dev/shm/in-flight");
      expect((await child.vm.run("pgrep -xc sshd; pgrep -fc '^sshd-session: root .priv'")).output).toBe("1\n1");
      if (hasOpenSsh) {
        await expectRunning(child.vm, "/dev/shm/by-ssh");
        expect((await sshInto(child.vm, "hostname")).stdout).toBe(`${child.vm.vmId}\n`);
        const withParentsKey = childs.options.map((option) =>
          option.startsWith("IdentityFile=") ? `IdentityFile=${parents.privateKeyPath}` : option,
        );
        expect(ssh([...withParentsKey, childs.host, "true"]).stderr).toMatch(/Permission denied/);
      }
      expect((await vm.run("hostname")).output).toBe("secure");
    } finally {
      ended.abort();
      expect(await flying).toMatchObject({ code: "ABORTED" });
      await child.vm.delete();
    }
  });

  it("is restored from a snapshot, and goes back to a checkpoint with its own keys and port", async () => {
    const snapshot = await vm.snapshot();
    await using restored = await SmolVM.fromSnapshot(snapshot.id, { vmId: "restored", commChannel: "ssh" });
    expect((await restored.run("hostname")).output).toBe("restored");
    expect((await restored.ssh()).port).not.toBe((await vm.ssh()).port);
    const before = await restored.ssh();
    const checkpoint = await restored.checkpoint();
    await restored.run("touch /root/after");
    await restored.rewind(checkpoint);
    expect((await restored.run("ls /root/after 2>/dev/null || echo gone")).output).toBe("gone");
    expect(await restored.ssh()).toEqual(before);
    if (hasOpenSsh) expect((await sshInto(restored, "hostname")).stdout).toBe("restored\n");
    await restored.delete();
    await using manager = new VmManager();
    await manager.deleteSnapshot(snapshot.id);
  });
});

async function expectRunning(inside: Vm, file: string): Promise<void> {
  const look = async () => (await inside.run(`cat ${file}`)).output;
  const before = await look();
  await eventually(async () => ((await look()) > before ? true : undefined));
}

/** Whether a TCP port can be connected to and speaks SSH. Speaks first: passt of 2023 lets no server do so. */
function opens(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 5_000 }, () => socket.write("SSH-2.0-test\r\n"));
    socket.on("data", () => {
      resolve(true);
      socket.destroy();
    });
    socket.on("timeout", () => socket.destroy());
    socket.on("error", () => {});
    socket.on("close", () => resolve(false));
  });
}
