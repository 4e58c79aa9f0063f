import { Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import { flush, writeBytes } from "./write-bytes.js";

/** A reader that takes nothing until it is let go. */
function slowStream() {
  let release = () => {};
  const stream = new Writable({
    highWaterMark: 1,
    write(_chunk, _encoding, done) {
      release = done;
    },
  });
  stream.on("error", () => {});
  return { stream, release: () => release() };
}

const NEVER = new AbortController().signal;

describe("writeBytes", () => {
  it("waits until the reader takes more", async () => {
    const { stream, release } = slowStream();
    const written = writeBytes(stream, Buffer.from("ab"), NEVER);
    expect(written).toBeInstanceOf(Promise);
    release();
    await written;
    expect(stream.listenerCount("drain")).toBe(0);
  });

  it("stops waiting when the reader is gone, and drops what comes after", async () => {
    const { stream } = slowStream();
    const written = writeBytes(stream, Buffer.from("ab"), NEVER);
    stream.destroy(Object.assign(new Error("write EPIPE"), { code: "EPIPE" }));
    await written;
    expect(writeBytes(stream, Buffer.from("cd"), NEVER)).toBeUndefined();
  });

  it("stops waiting when it is aborted", async () => {
    const { stream } = slowStream();
    const controller = new AbortController();
    const written = writeBytes(stream, Buffer.from("ab"), controller.signal);
    controller.abort();
    await written;
  });
});

describe("flush", () => {
  it("gives up on a reader that takes nothing", async () => {
    const { stream } = slowStream();
    stream.write("ab");
    await flush(stream, 10);
  });
});
