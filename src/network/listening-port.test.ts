import { once } from "node:events";
import { createConnection } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { spawnProgram } from "../host/process.js";
import { cannotListen, listenOnPort } from "./listening-port.js";

test("is nobody else's from the moment it is bound, and a child's after this program has closed its copy", async () => {
  const port = await listenOnPort("127.0.0.1", 0);
  expect(port.hostPort).toBeGreaterThan(1023);
  await expect(listenOnPort("127.0.0.1", port.hostPort)).rejects.toMatchObject({
    code: "PORT_IN_USE",
    details: { hostAddress: "127.0.0.1", hostPort: port.hostPort, reason: "EADDRINUSE" },
  });
  await expect(listenOnPort("0.0.0.0", port.hostPort)).rejects.toMatchObject({ code: "PORT_IN_USE" });
  // Another address is another port.
  const other = await listenOnPort("127.0.0.2", port.hostPort);
  other.close();

  const serve = "require('net').createServer((c) => c.end('child')).listen({ fd: 3 })";
  const child = await spawnProgram([process.execPath, "-e", serve], {
    stdio: ["ignore", "inherit", "inherit", port.fd],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  port.close();
  port.close();
  const client = createConnection(port.hostPort, "127.0.0.1");
  const [answer] = (await once(client, "data")) as [Buffer];
  expect(String(answer)).toBe("child");
  await expect(listenOnPort("127.0.0.1", port.hostPort)).rejects.toMatchObject({ code: "PORT_IN_USE" });
});

test("is free again when it was closed without a child", async () => {
  const port = await listenOnPort("127.0.0.1", 0);
  port.close();
  const again = await listenOnPort("127.0.0.1", port.hostPort);
  again.close();
});

test("of an address that this host does not have cannot be listened on", async () => {
  await expect(listenOnPort("192.0.2.1", 0)).rejects.toMatchObject({
    code: "NETWORK_FAILED",
    details: { hostAddress: "192.0.2.1", hostPort: 0, reason: "EADDRNOTAVAIL" },
  });
  expect(cannotListen({ hostAddress: "127.0.0.1", hostPort: 80 }, "EACCES").hint).toMatch(/1023/);
});
