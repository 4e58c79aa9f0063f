// A program that installs: a child process of tests, compiled by compiled.ts. Its arguments are the options as JSON.

import { installFirecracker } from "../install-firecracker.js";

try {
  const { firecracker } = await installFirecracker(JSON.parse(process.argv[2] ?? "{}"));
  process.stdout.write(`${JSON.stringify({ path: firecracker.path })}\n`);
} catch (error) {
  const { code, message, details } = error as { code: string; message: string; details: unknown };
  process.stdout.write(`${JSON.stringify({ code, message, details })}\n`);
  process.exitCode = 1;
}
