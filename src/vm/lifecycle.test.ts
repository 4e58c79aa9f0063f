import { describe, expect, test } from "vitest";
import { HELP_TO_RUN, LIFECYCLE } from "./lifecycle.js";

const STATUSES = ["created", "running", "paused", "stopped", "error"] as const;

describe.each(Object.entries(LIFECYCLE))("%s", (_verb, rule) => {
  test.each(STATUSES)("in state %s does its work, has nothing to do, or names the call that helps", (status) => {
    const answers = [rule.from.includes(status), rule.already.includes(status), rule.helps[status] !== undefined];
    expect(answers.filter(Boolean)).toHaveLength(1);
  });

  test("names calls that are legal in that state and lead on", () => {
    for (const [status, call] of Object.entries(rule.helps)) {
      const verb = call.replace("()", "") as keyof typeof LIFECYCLE;
      expect(LIFECYCLE[verb].from).toContain(status);
    }
  });
});

test("each call makes a change of its own, but for those that copy the VM, and those of its network", () => {
  const { fork, snapshot, checkpoint, expose, ...others } = LIFECYCLE;
  const transitions = [fork, ...Object.values(others)].map(({ transition }) => transition);
  expect(new Set(transitions).size).toBe(transitions.length);
  expect([snapshot, checkpoint]).toEqual([fork, fork]);
  expect(expose.transition).toBe(others.network.transition);
});

test.each(STATUSES)("what makes a VM in state %s able to run commands is legal", (status) => {
  const help = HELP_TO_RUN[status];
  if (status === "running") expect(help).toBeUndefined();
  else expect(LIFECYCLE[help?.replace("()", "") as "start"].from).toContain(status);
});
