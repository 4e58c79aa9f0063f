// Many programs use one VM at once: eight lanes, one for each program beside the one that started it, which has its own.

import { afterAll, beforeAll, expect, it } from "vitest";
import { Program } from "../support/program.js";
import { testState } from "../support/state.js";
import { pause } from "../support/wait.js";

const state = testState();
const LANES = 8;
let starter: Program;
let programs: Program[] = [];
let vmId: string;

beforeAll(async () => {
  starter = await Program.start();
  programs = await Program.startMany(LANES);
  vmId = await starter.call("boot", state.config());
});

afterAll(async () => {
  await using cleaner = starter;
  await Promise.all(programs.map((program) => program.kill()));
  await cleaner.call("delete", vmId);
});

it("serves its starter and eight programs with three commands each, all at once", async () => {
  const asked = [starter, ...programs].flatMap((program, index) =>
    [1, 2, 3].map((n) => ({ program, text: `${index}-${n}` })),
  );
  const answers = await Promise.all(
    asked.map(({ program, text }) => program.call("run", vmId, `sleep 0.3; echo ${text}`)),
  );
  expect(answers.map(({ output }) => output)).toEqual(asked.map(({ text }) => text));
});

it("lets a ninth program wait, and in when one of the eight ends", async () => {
  const ninth = await Program.start();
  let isAnswered = false;
  const answer = ninth.call("exec", vmId, ["echo", "ninth"]).finally(() => {
    isAnswered = true;
  });
  await pause(1_000);
  expect(isAnswered).toBe(false);
  await programs[0]!.end();
  expect((await answer).output).toBe("ninth");
  programs[0] = ninth;
});

it("says BUSY to a ninth program when nobody ends", async () => {
  await using ninth = await Program.start();
  await expect(ninth.call("exec", vmId, ["true"], { timeoutMs: 1_000 })).rejects.toMatchObject({ code: "BUSY" });
});

it("gives a lane on after its program was killed in the middle of a command, and ends that command", async () => {
  const killed = programs[1]!;
  void killed.call("run", vmId, "echo started > /tmp/started; sleep 4242");
  const [witness] = programs as [Program];
  await witness.call("run", vmId, "until [ -e /tmp/started ]; do sleep 0.1; done");
  await killed.kill();
  programs[1] = await Program.start();
  expect((await programs[1].call("exec", vmId, ["echo", "successor"])).output).toBe("successor");
  const gone = await witness.call("run", vmId, "while pgrep -f 'sleep 424[2]'; do sleep 0.1; done", {
    timeoutMs: 20_000,
  });
  expect(gone.exitCode).toBe(0);
});
