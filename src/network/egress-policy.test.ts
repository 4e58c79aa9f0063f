import { describe, expect, it } from "vitest";
import { type EgressPolicy, egressRules } from "./egress-policy.js";

const allow = (...entries: string[]) => egressRules({ allow: entries });

describe("egressRules", () => {
  it("knows the two policies without entries", () => {
    expect(egressRules("open")).toEqual({ mode: "open", names: [], networks: [] });
    expect(egressRules("off")).toEqual({ mode: "off", names: [], networks: [] });
  });

  it("takes names on the web's ports, or on the one they name", () => {
    expect(allow("API.example.com", "*.Example.org:8443", "registry").names).toEqual([
      { name: "api.example.com", port: 443 },
      { name: "api.example.com", port: 80 },
      { name: "*.example.org", port: 8443 },
      { name: "registry", port: 443 },
      { name: "registry", port: 80 },
    ]);
  });

  it("compares names in their ASCII form", () => {
    expect(allow("bücher.example:443").names).toEqual([{ name: "xn--bcher-kva.example", port: 443 }]);
    expect(allow("_dmarc.example.com:80").names).toEqual([{ name: "_dmarc.example.com", port: 80 }]);
  });

  it("takes addresses and networks, with a port or without", () => {
    expect(allow("203.0.113.0/24", "198.51.100.7", "198.51.100.7:25", "10.1.0.0/16:5432", "0.0.0.0/0")).toEqual({
      mode: "allow",
      names: [],
      networks: [
        { cidr: "203.0.113.0/24" },
        { cidr: "198.51.100.7/32" },
        { cidr: "198.51.100.7/32", port: 25 },
        { cidr: "10.1.0.0/16", port: 5432 },
        { cidr: "0.0.0.0/0" },
      ],
    });
  });

  it("counts an entry that occurs twice once", () => {
    const { names, networks } = allow("a.example", "A.example:443", "1.2.3.4", "1.2.3.4/32");
    expect(names).toHaveLength(2);
    expect(networks).toHaveLength(1);
  });

  it.each([
    ["*", "egress"],
    ["*.", "egress"],
    ["a.*.example", "first label"],
    ["*example.com", "first label"],
    ["https://example.com", "scheme"],
    ["example.com/path", "path"],
    ["user:secret@example.com", "password"],
    ["user@example.com", "password"],
    ["example.com:0", "1 to 65535"],
    ["example.com:65536", "1 to 65535"],
    ["example.com:", "1 to 65535"],
    ["example.com:http", "1 to 65535"],
    ["example.com:080", "1 to 65535"],
    ["[2001:db8::1]", "IPv6"],
    ["2001:db8::1", "IPv6"],
    ["::/0", "IPv6"],
    ["203.0.113.5/24", "203.0.113.0/24"],
    ["203.0.113.0/33", "prefix"],
    ["203.0.113.0/", "prefix"],
    ["203.0.113.0/024", "prefix"],
    ["300.1.1.1", "0 to 255"],
    ["1.2.3", "0 to 255"],
    ["127.0.0.1", "loopback"],
    ["169.254.169.254:80", "link-local"],
    ["224.0.0.0/8", "multicast"],
    ["", "name"],
    [".example.com", "name"],
    ["example..com", "name"],
    ["example.com.", "name"],
    ["-a.example", "name"],
    ["a b.example", "name"],
    ["a\u0000b.example", "name"],
    [`${"a".repeat(64)}.example`, "name"],
    [`${"a.".repeat(126)}example`, "name"],
    ["example.123", "name"],
  ])("refuses %j and says what it wants", (entry, expected) => {
    const policy: EgressPolicy = { allow: ["good.example", entry] };
    expect(() => egressRules(policy)).toThrow(
      expect.objectContaining({
        code: "INVALID_CONFIG",
        details: expect.objectContaining({
          field: "network.egress.allow[1]",
          expected: expect.stringContaining(expected),
        }),
      }),
    );
  });

  it("never repeats a password", () => {
    const refused = () => allow("user:s3cret@example.com");
    expect(refused).toThrow(/example\.com/);
    expect(refused).not.toThrow(/s3cret/);
  });
});
