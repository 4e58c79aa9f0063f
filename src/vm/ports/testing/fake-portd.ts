// A program in the place of portd: it listens and takes orders like it, but there is no guest. What connects hears the
// guest's port.

import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Each start leaves a line in this file of its directory's parent. */
export const STARTS_FILE = "starts";

/**
 * Writes the program.
 *
 * @param directory Where to.
 * @returns Its path.
 */
export function writeFakePortd(directory: string): string {
  const path = join(directory, "portd.cjs");
  writeFileSync(path, `#!${process.execPath}\n(${portd})(require);\n`);
  chmodSync(path, 0o755);
  return path;
}

/** Runs in the program, so it uses nothing from outside of itself. */
function portd(load: NodeJS.Require): void {
  const net = load("node:net") as typeof import("node:net");
  const fs = load("node:fs") as typeof import("node:fs");
  const argv = process.argv.slice(2);
  const after = (flag: string) => argv.flatMap((word, index) => (argv[index - 1] === flag ? [word] : []));
  const served = new Map<string, { server: import("node:net").Server; guestPort: number }>();
  const serve = (guestPort: number) => net.createServer((client) => client.end(String(guestPort)));
  const keep = (server: import("node:net").Server, guestPort: number) => {
    const { address, port } = server.address() as import("node:net").AddressInfo;
    served.set(`${address}:${port}`, { server, guestPort });
    return port;
  };
  fs.appendFileSync("../starts", `${argv.join(" ")}\n`);
  if (fs.existsSync("../fails")) {
    process.stderr.write("portd: no guest here\n");
    process.exitCode = 3;
    return;
  }
  const inherited = after("-listener").map((word) => word.split(":").map(Number) as [number, number]);
  const listening = inherited.map(
    ([fd, guestPort]) =>
      new Promise<void>((done) => {
        const server = serve(guestPort);
        server.listen({ fd }, () => {
          keep(server, guestPort);
          done();
        });
      }),
  );
  type Answer = (answer: object) => void;
  type Order = { op: string; hostAddress: string; hostPort: number; guestPort: number };
  const operations: Record<string, (order: Order, answer: Answer) => void> = {
    listen({ hostAddress, hostPort, guestPort }, answer) {
      const server = serve(guestPort);
      server.on("error", ({ code, message }: NodeJS.ErrnoException) => answer({ ok: false, code, message }));
      server.listen({ host: hostAddress, port: hostPort }, () =>
        answer({ ok: true, hostPort: keep(server, guestPort) }),
      );
    },
    close({ hostAddress, hostPort }, answer) {
      served.get(`${hostAddress}:${hostPort}`)?.server.close();
      const isThere = served.delete(`${hostAddress}:${hostPort}`);
      answer(isThere ? { ok: true } : { ok: false, code: "ENOENT", message: "it is not there" });
    },
    list(_order, answer) {
      const ports = [...served].map(([place, { guestPort }]) => {
        const [hostAddress, hostPort] = place.split(":");
        return { hostAddress, hostPort: Number(hostPort), guestPort };
      });
      answer({ ok: true, ports });
    },
  };
  const door = net.createServer((client) => {
    client.on("error", () => {});
    client.on("data", (line) => {
      const order = JSON.parse(String(line)) as Order;
      operations[order.op]?.(order, (answer) => client.write(`${JSON.stringify(answer)}\n`));
    });
  });
  void Promise.all(listening).then(() => {
    door.listen(after("-control")[0], () => {
      const [ready] = after("-ready-fd");
      if (ready !== undefined) fs.writeSync(Number(ready), "ready\n");
    });
  });
}
