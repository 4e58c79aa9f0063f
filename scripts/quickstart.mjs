// npm run quickstart: from a fresh checkout to commands in a microVM, with the time that each phase took.

import { exitWith, Stop } from "./lib/child.mjs";
import { Phases } from "./lib/phases.mjs";
import { prepare } from "./lib/prepare.mjs";

const PYTHON_PROGRAM = [
  "import platform, sys",
  "primes = [n for n in range(2, 60) if all(n % d for d in range(2, n))]",
  "print('Python', platform.python_version(), 'on', platform.node())",
  "print('primes below 60:', *primes)",
].join("; ");

const phases = new Phases();
const interrupt = new AbortController();
for (const name of ["SIGINT", "SIGTERM"]) process.once(name, () => interrupt.abort());

try {
  await prepare(phases, { signal: interrupt.signal });
  await showMicroVM(interrupt.signal);
  process.stdout.write(`\n${phases.table()}\n`);
} catch (error) {
  exitWith(interrupt.signal.aborted ? new Stop("Interrupted; nothing was left running.") : error);
}

async function showMicroVM(signal) {
  const { SmolVM } = await import("../dist/index.js");
  const vm = await phases.run("boot", () => SmolVM.create({}, { signal }));
  try {
    await show(vm, "first command", "uname -a", signal);
    await show(vm, "second command", `python3 -c "${PYTHON_PROGRAM}"`, signal);
  } finally {
    await phases.run("delete", () => vm.delete());
  }
}

async function show(vm, phase, command, signal) {
  const { output } = await phases.run(phase, () => vm.run(command, { check: true, signal }));
  process.stdout.write(`\n$ ${command}\n${output}\n\n`);
}
