// Network "user": what a hostile guest reaches.

import { describe } from "vitest";
import { isolationMatrix } from "../network/isolation.js";
import { gateInternet } from "../support/internet.js";
import { testState } from "../support/state.js";

const reason = gateInternet();
const state = testState();

describe.skipIf(reason !== undefined)("network", () => isolationMatrix("user", state));
