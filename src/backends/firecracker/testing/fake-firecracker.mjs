// A program that stands for Firecracker in tests: it says yes to every request, notes it down, and leads connections to
// its vsock nowhere: what comes over one is sent back. A file beside it, NAME.json, says what it is to do otherwise.

import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";

const self = process.argv[1];
const option = (name) => process.argv[process.argv.indexOf(name) + 1];
const note = (entry) => appendFileSync(`${self}.log`, `${JSON.stringify(entry)}\n`);
const otherwise = () => (existsSync(`${self}.json`) ? JSON.parse(readFileSync(`${self}.json`, "utf8")) : {});
let state = "Not started";

const ACTIONS = {
  "PUT /vsock": ({ uds_path: path }) => listen(path),
  "PUT /actions": () => {
    state = "Running";
    process.stdout.write("guest runs\n");
  },
  "PUT /snapshot/load": () => {
    state = "Paused";
    listen("vsock");
  },
  "PATCH /vm": (body) => {
    state = body.state === "Paused" ? "Paused" : "Running";
  },
  "PUT /snapshot/create": ({ snapshot_path: devices, mem_file_path: memory, snapshot_type: kind }) => {
    writeFileSync(devices, `devices ${kind}`);
    writeFileSync(memory, `memory ${kind}`);
  },
};

function listen(path) {
  createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      if (otherwise().isSilent) return;
      socket.write("OK 1073741824\n");
      socket.pipe(socket);
    });
  }).listen(path);
}

function answer(request, text, response) {
  const name = `${request.method} ${request.url}`;
  const body = text === "" ? undefined : JSON.parse(text);
  note({ request: name, body });
  const { endAt, stallAt, refuse = {} } = otherwise();
  if (endAt === name) process.exit(7);
  if (stallAt === name) return;
  if (name in refuse) {
    response.writeHead(400).end(JSON.stringify({ fault_message: refuse[name] }));
    return;
  }
  if (name === "GET /") {
    const info = { id: option("--id"), state, vmm_version: otherwise().version ?? "1.16.1", app_name: "Firecracker" };
    response.writeHead(200).end(JSON.stringify(info));
    return;
  }
  const kind = name.replace(/^(PUT \/(?:drives|network-interfaces))\/.*/, "$1");
  ACTIONS[kind]?.(body);
  response.writeHead(204).end();
}

note({
  argv: process.argv.slice(2),
  cwd: process.cwd(),
  env: readFileSync("/proc/self/environ", "latin1"),
  pid: process.pid,
});
if (otherwise().endAt === "start") process.exit(7);
createHttpServer((request, response) => {
  let text = "";
  request.setEncoding("utf8").on("data", (chunk) => {
    text += chunk;
  });
  request.on("end", () => answer(request, text, response));
}).listen(option("--api-sock"));
