import { describe, expect, it } from "vitest";
import { parsePort } from "./port.js";

describe("parsePort", () => {
  it.each([
    ["80", { guest: 80 }],
    ["8080:80", { guest: 80, host: 8080 }],
    ["0:80", { guest: 80, host: 0 }],
    ["0.0.0.0:8080:80", { guest: 80, host: 8080, hostAddress: "0.0.0.0" }],
    ["127.0.0.1::80", { guest: 80, hostAddress: "127.0.0.1" }],
    ["[::1]:8080:80", { guest: 80, host: 8080, hostAddress: "::1" }],
    ["65535:65535", { guest: 65535, host: 65535 }],
  ])("reads %s", (text, port) => {
    expect(parsePort(text)).toEqual(port);
  });

  it.each(["", "0", ":80", "80:", "65536", "65536:80", "a:80", "1:2:3:4", "::1:80:80", "-1", "8080:80/udp", " 80"])(
    "refuses %j",
    (text) => {
      expect(() => parsePort(text)).toThrow(expect.objectContaining({ code: "INVALID_CONFIG" }));
    },
  );
});
