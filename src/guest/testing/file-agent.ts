// What tests of files ask of the scripted agent: it answers calls, gives data within credit and takes data.

import { FieldReader, FieldWriter } from "../fields.js";
import { DATA_LIMIT_BYTES, INITIAL_CREDIT_BYTES } from "../frame.js";
import type { FakeAgent } from "./fake-agent.js";

/** A call that the client has made. */
export interface ReceivedCall {
  readonly stream: number;
  readonly operation: string;
  readonly fields: FieldReader;
}

/** The next call of the client. */
export async function nextCall(agent: FakeAgent): Promise<ReceivedCall> {
  const { stream, payload } = await agent.next("call");
  const fields = new FieldReader(payload);
  return { stream, operation: fields.text(1) ?? "", fields };
}

/** Answers a call. */
export function answer(agent: FakeAgent, stream: number, fields = new FieldWriter()): void {
  agent.send("reply", { stream, payload: fields.finish() });
}

/** Gives data, waiting for the client's credit. @param pieceBytes Size of each frame. */
export async function give(
  agent: FakeAgent,
  stream: number,
  data: Uint8Array,
  pieceBytes = DATA_LIMIT_BYTES,
): Promise<void> {
  let creditBytes = INITIAL_CREDIT_BYTES;
  for (let from = 0; from < data.length; ) {
    const piece = data.subarray(from, from + Math.min(pieceBytes, DATA_LIMIT_BYTES));
    while (creditBytes < piece.length) creditBytes += (await agent.next("credit")).payload.readUInt32BE(0);
    agent.stdout(stream, piece);
    creditBytes -= piece.length;
    from += piece.length;
  }
}

/** Takes all data of a call until its end. */
export async function takeAll(agent: FakeAgent, stream: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const end = agent.next("end").then(() => undefined);
  for (;;) {
    const frame = await Promise.race([end, agent.next("data")]);
    if (frame === undefined) break;
    pieces.push(frame.payload);
    agent.credit(stream, frame.payload.length);
  }
  // Frames come in order: all data is there once the end is.
  const all = agent.all("data").filter((frame) => frame.stream === stream);
  return Buffer.concat(all.map(({ payload }) => payload));
}

/** An entry as `fs.readdir` gives it. */
export function entry(type: number, name: string | Uint8Array): Buffer {
  const bytes = Buffer.from(name as string);
  return Buffer.concat([Buffer.from([type, bytes.length >> 8, bytes.length & 0xff]), bytes]);
}

/** The fields of `fs.stat`, with some of them replaced. */
export function statFields(
  changed: { readonly mode?: number; readonly size?: bigint; readonly without?: number } = {},
) {
  const u32: [number, number][] = [
    [20, changed.mode ?? 0o100644],
    [23, 1],
    [24, 2],
    [26, 3],
    [31, 4096],
  ];
  const u64: [number, bigint][] = [
    ...([
      [21, changed.size ?? 5n],
      [22, 1_500_000n],
      [27, BigInt.asUintN(64, -1_000_000n)],
    ] as [number, bigint][]),
    ...([
      [28, 1_700_000_000_123_456_789n],
      [25, 2n ** 60n],
      [29, 7n],
      [30, 8n],
      [32, 9n],
    ] as [number, bigint][]),
  ];
  const fields = new FieldWriter();
  for (const [tag, value] of u32) if (tag !== changed.without) fields.u32(tag, value);
  for (const [tag, value] of u64) if (tag !== changed.without) fields.u64(tag, value);
  return fields;
}
