// Network "tap": what a policy lets through.

import { describe } from "vitest";
import { egressPolicy } from "../network/egress.js";
import { gateInternet } from "../support/internet.js";
import { testState } from "../support/state.js";

const reason = gateInternet();
const state = testState();

describe.skipIf(reason !== undefined)("network", () => egressPolicy("tap", state));
