import { describe, expect, it } from "vitest";
import { printable } from "./printable.js";
import { age, size } from "./quantities.js";
import { keyValues, table } from "./table.js";

describe("table", () => {
  it("aligns columns and leaves no space at line ends", () => {
    expect(
      table(
        ["ID", "STATUS"],
        [
          ["longer", "x"],
          ["a", ""],
        ],
      ),
    ).toBe("ID      STATUS\nlonger  x\na");
  });
});

describe("keyValues", () => {
  it("aligns values and leaves out what is not there", () => {
    expect(keyValues({ id: "a", status: "running", pid: null, ports: "" })).toBe("id:     a\nstatus: running");
  });
});

describe("quantities", () => {
  it("shows sizes in the largest unit", () => {
    expect([0, 1023, 1024, 353_370_112, 1.5 * 2 ** 30].map(size)).toEqual([
      "0 B",
      "1023 B",
      "1.0 KiB",
      "337 MiB",
      "1.5 GiB",
    ]);
  });

  it("shows ages in the largest unit", () => {
    const now = Date.parse("2026-11-24T12:00:00Z");
    const ages = ["2026-11-24T11:59:30Z", "2026-11-24T11:30:00Z", "2026-11-24T01:00:00Z", "2026-11-20T12:00:00Z"];
    expect(ages.map((time) => age(time, now))).toEqual(["30 s", "30 min", "11 h", "4 d"]);
  });
});

describe("printable", () => {
  it("keeps text and shows control characters", () => {
    expect(printable("a\tb\r\nü\x1b]0;x\x07\x9b")).toBe("a\tb\nü\\x1b]0;x\\x07\\x9b");
  });
});
