import { expect, test } from "vitest";
import { parseResolvConf } from "./resolv-conf.js";

test.each([
  ["nothing", "", [], []],
  ["comments", "# nameserver 1.1.1.1\n;x\nnameserver 9.9.9.9 # quad\n", ["9.9.9.9"], []],
  ["systemd-resolved", "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n", ["127.0.0.53"], ["lan"]],
  ["tabs and CRLF", "nameserver\t1.1.1.1\r\nsearch\ta.example  b.example\r\n", ["1.1.1.1"], ["a.example", "b.example"]],
  ["IPv6 with a zone", "nameserver fe80::1%eth0\nnameserver ::1\n", ["fe80::1%eth0", "::1"], []],
  ["last of search and domain", "search a.example\ndomain b.example\n", [], ["b.example"]],
  [
    "no more than three",
    "nameserver 1.1.1.1\n".repeat(2) + [2, 3, 4].map((n) => `nameserver 1.1.1.${n}\n`).join(""),
    ["1.1.1.1", "1.1.1.2", "1.1.1.3"],
    [],
  ],
  ["bad values", "nameserver example.com\nnameserver\nnameserver 1.2.3\nsearch . -x a/b ok\n", [], ["ok"]],
])("%s", (_name, text, nameservers, search) => {
  expect(parseResolvConf(text)).toEqual({ nameservers, search });
});
