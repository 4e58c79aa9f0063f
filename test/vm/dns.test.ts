// Names, in both network modes.

import { describe } from "vitest";
import { dnsAsTheHostHasIt } from "../network/dns.js";
import { gateInternet } from "../support/internet.js";
import { testState } from "../support/state.js";

const reason = gateInternet();
const state = testState();

describe.skipIf(reason !== undefined)("network", () => {
  dnsAsTheHostHasIt("user", state);
  dnsAsTheHostHasIt("tap", state);
});
