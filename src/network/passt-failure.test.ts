import { expect, test } from "vitest";
import { passtFailure } from "./passt-failure.js";

const failed = (log: string) => ({ argv: ["netguard"], exitCode: 1, signal: null, log });

test.each([
  [
    'netguard: cannot run passt: exec: "passt": executable file not found in $PATH\n',
    "HOST_UNSUPPORTED",
    /apt-get install passt/,
  ],
  [
    "No external routable interface for IPv4\nnetguard: passt ended at start: exit status 1\n",
    "NETWORK_FAILED",
    /default route/,
  ],
  ["Couldn't create user namespace\nnetguard: passt ended at start: exit status 1\n", "NETWORK_FAILED", /doctor/],
])("%s", (log, code, hint) => {
  const error = passtFailure(failed(log));
  expect(error.code).toBe(code);
  expect(error.hint).toMatch(hint);
  expect(error.details).toMatchObject({ log, exitCode: 1 });
});
