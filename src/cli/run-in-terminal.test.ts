import { EventEmitter, once } from "node:events";
import { PassThrough, Writable } from "node:stream";
import { expect, test } from "vitest";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { CommandResult, GuestProcess, PtySize } from "../index.js";
import type { CliHost, CommandContext, Sdk } from "./command.js";
import { runInTerminal } from "./run-in-terminal.js";

/** A terminal whose keyboard and screen a test has. */
class FakeTerminal {
  readonly events: string[] = [];
  readonly stdin = Object.assign(new PassThrough(), {
    isTTY: true,
    setRawMode: (isRaw: boolean) => this.events.push(isRaw ? "raw" : "cooked"),
  });
  screen = "";
  readonly stdout = Object.assign(
    new Writable({
      write: (data, _encoding, done) => {
        this.screen += String(data);
        done();
      },
    }),
    { isTTY: true, columns: 100, rows: 30 },
  );

  context(changes: Partial<CommandContext> = {}): CommandContext {
    const nothing = () => {};
    const host: CliHost = {
      ...{ stdin: this.stdin, stdout: this.stdout, stderr: this.stdout, env: {}, loadSdk },
      runAttached: async () => 0,
      showOutputAsItIs: async () => {
        this.events.push("as it is");
      },
    };
    return {
      host,
      isJson: false,
      signal: new AbortController().signal,
      onProgress: nothing,
      endProgress: nothing,
      commandTree: () => Promise.reject(new SmolVMError("INTERNAL", "not here")),
      ...changes,
    };
  }
}

const loadSdk = (): Promise<Sdk> => Promise.reject(new SmolVMError("INTERNAL", "not here"));

/** A process that says hello, then what is typed, until Ctrl-D. */
class FakeProcess extends EventEmitter {
  readonly sizes: PtySize[] = [];
  readonly stdin = new PassThrough();
  started: Promise<void> = Promise.resolve();

  resize(size: PtySize): void {
    this.sizes.push(size);
    this.emit("resize");
  }

  async *[Symbol.asyncIterator]() {
    yield { stream: "stdout" as const, data: Buffer.from("hello "), offset: 0 };
    for await (const data of this.stdin) {
      if (String(data).includes("\x04")) return;
      yield { stream: "stdout" as const, data, offset: 0 };
    }
  }

  // biome-ignore lint/suspicious/noThenProperty: as the real one.
  then<T>(onResult: (result: CommandResult) => T): Promise<T> {
    return Promise.resolve({ exitCode: 7 } as CommandResult).then(onResult);
  }
}

test("keys go to the process, its output to the screen, the size follows, and the terminal is as it was", async () => {
  const terminal = new FakeTerminal();
  const process = new FakeProcess();
  let size: PtySize | undefined;
  const running = runInTerminal(terminal.context(), (pty) => {
    size = pty;
    return process as unknown as GuestProcess;
  });
  terminal.stdout.columns = 120;
  const resized = once(process, "resize");
  terminal.stdout.emit("resize");
  await resized;
  terminal.stdin.write("abc\x03");
  await new Promise((resolve) => setTimeout(resolve, 10));
  terminal.stdin.write("\x04");
  expect(await running).toMatchObject({ exitCode: 7 });
  expect(size).toEqual({ cols: 100, rows: 30 });
  expect(process.sizes).toEqual([{ cols: 120, rows: 30 }]);
  expect(terminal.screen).toBe("hello abc\x03");
  expect(terminal.events).toEqual(["raw", "as it is", "cooked"]);
  expect([terminal.stdin.destroyed, terminal.stdout.listenerCount("resize")]).toEqual([true, 0]);
});

test("a process that does not start leaves the terminal as it was", async () => {
  const terminal = new FakeTerminal();
  const process = new FakeProcess();
  process.started = Promise.reject(new RangeError("no such program"));
  const running = runInTerminal(terminal.context(), () => process as unknown as GuestProcess);
  await expect(running).rejects.toThrow("no such program");
  expect(terminal.events).toEqual(["cooked"]);
  expect(terminal.stdin.destroyed).toBe(true);
});

test.each(["stdin", "stdout"] as const)("without a terminal as %s nothing is started", async (which) => {
  const terminal = new FakeTerminal();
  terminal[which].isTTY = false;
  const start = (): never => {
    throw new RangeError("started");
  };
  await expect(runInTerminal(terminal.context(), start)).rejects.toMatchObject({ code: "INVALID_CONFIG" });
  const asJson = new FakeTerminal().context({ isJson: true });
  await expect(runInTerminal(asJson, start)).rejects.toMatchObject({ code: "INVALID_CONFIG" });
});
