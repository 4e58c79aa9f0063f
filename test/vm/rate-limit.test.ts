// Rate limits, in both network modes.

import { describe } from "vitest";
import { rateLimit } from "../network/rate-limit.js";
import { gateInternet } from "../support/internet.js";
import { testState } from "../support/state.js";

const reason = gateInternet();
const state = testState();

describe.skipIf(reason !== undefined)("network", () => {
  rateLimit("user", state);
  rateLimit("tap", state);
});
