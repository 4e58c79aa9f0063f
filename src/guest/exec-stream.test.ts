import { expect, test, vi } from "vitest";
import { deferred } from "../base/deferred.js";
import { FieldReader } from "./fields.js";
import { CHANNEL, INITIAL_CREDIT_BYTES } from "./frame.js";
import { FakeAgent } from "./testing/fake-agent.js";

const ignore = () => {};
const withStdin = { command: { argv: ["cat"] }, hasStdin: true };
const withoutStdin = { command: { argv: ["cat"] }, hasStdin: false };
const tick = () => new Promise((resolve) => setTimeout(resolve, 10));

async function inputOf(agent: FakeAgent, sizeBytes: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let got = 0;
  while (got < sizeBytes) {
    const { payload } = await agent.next("data");
    parts.push(payload);
    got += payload.length;
  }
  return Buffer.concat(parts);
}

test("the request says all there is to know", async () => {
  const { agent, connection } = await FakeAgent.connected();
  connection.exec(
    {
      command: { argv: ["printf", "", "ü"] },
      env: { A: "1", B: "x=y" },
      cwd: "/srv",
      user: "nobody",
      outputLimitBytes: 2 ** 33,
      keepOrphans: true,
      hasStdin: true,
    },
    ignore,
  );
  const fields = new FieldReader((await agent.next("exec")).payload);
  expect(fields.texts(1)).toEqual(["printf", "", "ü"]);
  expect(fields.texts(2)).toEqual(["A=1", "B=x=y"]);
  expect([fields.text(3), fields.text(4)]).toEqual(["/srv", "nobody"]);
  expect([fields.u64(5), fields.u64(6)]).toEqual([2n ** 33n, 2n ** 33n]);
  expect([fields.bytes(7), fields.bytes(8), fields.bytes(9)]).toEqual([Buffer.from([1]), undefined, Buffer.from([1])]);

  connection.exec({ command: { shellLine: "echo $HOME" }, hasStdin: false }, ignore);
  const line = new FieldReader((await agent.next("exec")).payload);
  expect(line.text(8)).toBe("echo $HOME");
  expect([1, 2, 3, 4, 5, 6, 7, 9].map((tag) => line.bytes(tag))).toEqual(Array(8).fill(undefined));
});

test("streams are numbered 1, 2, 3 and their outputs do not mix", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const seen = new Map<number, string>();
  const streams = Array.from({ length: 40 }, (_, index) =>
    connection.exec(withoutStdin, (name, data) => {
      seen.set(index + 1, `${seen.get(index + 1) ?? ""}${name[3]}:${data} `);
    }),
  );
  for (let id = 1; id <= 40; id++) expect((await agent.next("exec")).stream).toBe(id);
  for (let round = 0; round < 3; round++) {
    for (let id = 40; id >= 1; id--) {
      agent.stdout(id, `o${id}.${round}`);
      agent.stderr(id, `e${id}.${round}`);
    }
  }
  for (let id = 1; id <= 40; id++) agent.exited(id, id);
  const exits = await Promise.all(streams.map(({ exited }) => exited));
  exits.forEach((exit, index) => {
    expect(exit).toEqual({ exitCode: index + 1, droppedBytes: 0n });
    const id = index + 1;
    expect(seen.get(id)).toBe([0, 1, 2].map((round) => `o:o${id}.${round} e:e${id}.${round} `).join(""));
  });
});

test("the pid is told, and the exit only after the last output was consumed", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const consumed = deferred<void>();
  const stream = connection.exec(withoutStdin, () => consumed.promise);
  agent.started(1, 4711);
  agent.stdout(1, "x");
  agent.exited(1, 0);
  const hasExited = vi.fn();
  void stream.exited.then(hasExited);
  await tick();
  expect(stream.pid).toBe(4711);
  expect(stream.takesStdin).toBe(false);
  expect(hasExited).not.toHaveBeenCalled();
  consumed.resolve();
  await stream.exited;
});

test("credit comes back only when the consumer is done, for each output on its own", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const gates: (() => void)[] = [];
  connection.exec(withoutStdin, () => new Promise<void>((resolve) => gates.push(resolve)));
  await agent.next("exec");
  for (let count = 0; count < 4; count++) agent.stdout(1, Buffer.alloc(INITIAL_CREDIT_BYTES / 4));
  await tick();
  expect(agent.all("credit")).toEqual([]);
  gates.shift()?.();
  const credit = await agent.next("credit");
  expect([credit.channel, credit.payload.readUInt32BE(0)]).toEqual([CHANNEL.stdout, INITIAL_CREDIT_BYTES / 4]);
  await tick();
  expect(agent.all("credit")).toHaveLength(1);

  // What was credited may be sent; stderr has all of its own.
  agent.stdout(1, Buffer.alloc(INITIAL_CREDIT_BYTES / 4));
  agent.stderr(1, Buffer.alloc(65_536));
  await tick();
  expect(connection.isOpen).toBe(true);
  agent.stdout(1, Buffer.alloc(1));
  expect(await connection.closed).toMatchObject({ code: "PROTOCOL_ERROR" });
});

test("megabytes flow when the consumer keeps up", async () => {
  const { agent, connection } = await FakeAgent.connected();
  let sizeBytes = 0;
  const { exited } = connection.exec(withoutStdin, (_name, data) => {
    sizeBytes += data.length;
  });
  let creditBytes = INITIAL_CREDIT_BYTES;
  for (let count = 0; count < 64; count++) {
    while (creditBytes < 65_536) creditBytes += (await agent.next("credit")).payload.readUInt32BE(0);
    agent.stdout(1, Buffer.alloc(65_536));
    creditBytes -= 65_536;
  }
  agent.exited(1, 0);
  await exited;
  expect(sizeBytes).toBe(64 * 65_536);
});

test("a sink that throws has the command killed, once, and its error is the caller's", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const stream = connection.exec(withoutStdin, () => {
    throw new Error("disk full");
  });
  for (let count = 0; count < 50; count++) agent.stdout(1, "x");
  await expect(stream.exited).rejects.toThrow("disk full");
  await agent.next("kill");
  await tick();
  expect(agent.all("kill")).toHaveLength(1);
  agent.killedBy(1, 9);
  await tick();
  expect(connection.isOpen).toBe(true);
});

test("stdin waits for credit, and its end follows the data", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const stream = connection.exec(withStdin, ignore);
  const data = Buffer.alloc(INITIAL_CREDIT_BYTES + 100_000, 5);
  const writing = stream.writeStdin(data).then(() => stream.endStdin());
  const first = await inputOf(agent, INITIAL_CREDIT_BYTES);
  await tick();
  expect(agent.all("data").reduce((sum, { payload }) => sum + payload.length, 0)).toBe(INITIAL_CREDIT_BYTES);
  agent.credit(1, 1);
  expect((await agent.next("data")).payload).toHaveLength(1);
  agent.credit(1, 200_000);
  const rest = await inputOf(agent, 99_999);
  await writing;
  await agent.next("end");
  expect(first.length + 1 + rest.length).toBe(data.length);
});

test("stdin waits for a lane that is full; many at once do so without a warning", async () => {
  const warnings: string[] = [];
  const onWarning = (warning: Error) => warnings.push(warning.message);
  process.on("warning", onWarning);
  try {
    const { agent, connection } = await FakeAgent.connected();
    agent.stopReading();
    let done = 0;
    const writes = Array.from({ length: 20 }, () =>
      connection
        .exec(withStdin, ignore)
        .writeStdin(Buffer.alloc(200_000, 1))
        .then(() => {
          done += 1;
        }),
    );
    await tick();
    expect(done).toBe(0);
    expect(agent.lane.writableLength).toBeLessThan(20 * 40_000);
    agent.readOn();
    await Promise.all(writes);
    await inputOf(agent, 20 * 200_000);
    expect(warnings).toEqual([]);
  } finally {
    process.off("warning", onWarning);
  }
});

test("writers that wait are let go when the command or the connection ends", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const stream = connection.exec(withStdin, ignore);
  const writing = stream.writeStdin(Buffer.alloc(2 * INITIAL_CREDIT_BYTES));
  await inputOf(agent, INITIAL_CREDIT_BYTES);
  agent.exited(1, 0);
  await writing;

  agent.stopReading();
  const stuck = connection.exec(withStdin, ignore).writeStdin(Buffer.alloc(INITIAL_CREDIT_BYTES));
  await tick();
  connection.close();
  await stuck;
});

test("signal and kill are frames while it runs and nothing afterwards", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const stream = connection.exec(withStdin, ignore);
  stream.signal("SIGUSR2");
  stream.kill();
  expect(new FieldReader((await agent.next("signal")).payload).u32(1)).toBe(12);
  await agent.next("kill");
  agent.killedBy(1, 12);
  expect(await stream.exited).toEqual({ signal: 12, droppedBytes: 0n });
  const countBefore = agent.frames.length;
  stream.signal("SIGTERM");
  stream.kill();
  stream.endStdin();
  await stream.writeStdin(Buffer.from("late"));
  await tick();
  expect(agent.frames).toHaveLength(countBefore);
});
