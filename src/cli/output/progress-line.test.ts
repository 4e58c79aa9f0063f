import { Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import { ProgressLine } from "./progress-line.js";

function screen(isTTY: boolean, columns = 20) {
  let text = "";
  const stream = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  return { stream: Object.assign(stream, { isTTY, columns }), text: () => text };
}

describe("ProgressLine", () => {
  it("rewrites one line of a terminal and takes it away", () => {
    const { stream, text } = screen(true);
    const line = new ProgressLine(stream, { isSilent: false });
    line.show({ step: "Building" });
    line.show({ step: "Building", detail: "a\x1bpackage with a long name", fraction: 0.5 });
    line.end();
    expect(text()).toBe("\r\x1b[KBuilding\r\x1b[KBuilding 50%: a pac\r\x1b[K");
  });

  it("shows a bar where there is room for it and a share is known", () => {
    const { stream, text } = screen(true, 80);
    const line = new ProgressLine(stream, { isSilent: false });
    line.show({ step: "Copying" });
    line.show({ step: "Copying", detail: "a.bin", fraction: 0.25 });
    line.show({ step: "Copying", fraction: 1 });
    line.end();
    expect(text().split("\r\x1b[K")).toEqual([
      "",
      "Copying",
      "[#####...............] Copying 25%: a.bin",
      "[####################] Copying 100%",
      "",
    ]);
  });

  it("is silent where there is no terminal", () => {
    const { stream, text } = screen(false);
    const line = new ProgressLine(stream, { isSilent: false });
    line.show({ step: "Building" });
    line.end();
    expect(text()).toBe("");
  });

  it("prints each step of long work once where there is no terminal", () => {
    const { stream, text } = screen(false);
    const line = new ProgressLine(stream, { isSilent: false });
    line.allowPlainLines();
    line.show({ step: "Fetching" });
    line.show({ step: "Fetching", detail: "too soon" });
    line.show({ step: "Building", detail: "now" });
    line.end();
    expect(text()).toBe("Fetching\nBuilding: now\n");
  });

  it("says nothing at all with --json", () => {
    const { stream, text } = screen(true);
    const line = new ProgressLine(stream, { isSilent: true });
    line.allowPlainLines();
    line.show({ step: "Building" });
    line.end();
    expect(text()).toBe("");
  });
});
