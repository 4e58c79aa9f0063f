// Frames of the guest protocol as bytes (docs/guest-protocol.md, "Frame"). Knows nothing of their meaning.

/** Version of the protocol that this client speaks. */
export const PROTOCOL_VERSION = 1;

/** What every connection begins with; occurs nowhere else in what a client sends. */
export const PREAMBLE = Buffer.from("fffe534d4f4c564dfffd505245414dff", "hex");

/** Bytes of a frame before its payload. */
export const HEADER_BYTES = 16;
/** Largest payload of a `DATA` frame, in bytes. */
export const DATA_LIMIT_BYTES = 65_536;
/** Largest other payload that an agent may send, in bytes. */
export const AGENT_CONTROL_LIMIT_BYTES = 65_536;
/** Largest other payload that a client may send, in bytes. */
export const CLIENT_CONTROL_LIMIT_BYTES = 4 * 1024 * 1024;
/** Bytes that each channel may send before the first credit. */
export const INITIAL_CREDIT_BYTES = 262_144;

const MAGIC = 0x534d;

export const FRAME_TYPE = {
  hello: 0x01,
  welcome: 0x02,
  fatal: 0x03,
  exec: 0x10,
  started: 0x11,
  data: 0x12,
  end: 0x13,
  credit: 0x14,
  signal: 0x15,
  exited: 0x16,
  failed: 0x17,
  kill: 0x18,
  resize: 0x19,
  attach: 0x1a,
  detach: 0x1b,
  skipped: 0x1c,
  call: 0x20,
  reply: 0x21,
} as const;

/** Types that belong to the connection itself, stream 0. */
const ON_CONNECTION = new Set<FrameName>(["hello", "welcome", "fatal"]);
/** Types whose channel has a meaning. */
const WITH_CHANNEL = new Set<FrameName>(["data", "end", "credit"]);
/** Payload bytes of types that have exactly so many. */
const EXACT_BYTES: Partial<Readonly<Record<FrameName, number>>> = { end: 0, kill: 0, detach: 0, credit: 4 };

const NAME_BY_TYPE = new Map<number, FrameName>(
  Object.entries(FRAME_TYPE).map(([name, type]) => [type, name as FrameName]),
);

export type FrameName = keyof typeof FRAME_TYPE;

/** Channels of a stream. */
export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2 } as const;

/** One frame. */
export interface Frame {
  readonly name: FrameName;
  readonly channel: number;
  readonly stream: number;
  readonly sequence: number;
  readonly payload: Buffer;
}

/** A header whose payload may not have come yet. */
export interface FrameHeader {
  readonly name: FrameName;
  readonly channel: number;
  readonly stream: number;
  readonly sequence: number;
  readonly payloadBytes: number;
}

/** The bytes of a frame's header. */
export function encodeHeader(frame: FrameHeader): Buffer {
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  header.writeUInt16BE(MAGIC, 0);
  header.writeUInt8(FRAME_TYPE[frame.name], 2);
  header.writeUInt8(frame.channel, 3);
  header.writeUInt32BE(frame.stream, 4);
  header.writeUInt32BE(frame.sequence, 8);
  header.writeUInt32BE(frame.payloadBytes, 12);
  return header;
}

/**
 * Reads a header.
 *
 * @param bytes At least {@link HEADER_BYTES} bytes.
 * @returns The header, or in words what is wrong with it.
 */
export function decodeHeader(bytes: Buffer): FrameHeader | string {
  const magic = bytes.readUInt16BE(0);
  if (magic !== MAGIC) return `magic is 0x${magic.toString(16)}`;
  const type = bytes.readUInt8(2);
  const name = NAME_BY_TYPE.get(type);
  if (name === undefined) return `type 0x${type.toString(16)} is unknown`;
  const header = {
    name,
    channel: bytes.readUInt8(3),
    stream: bytes.readUInt32BE(4),
    sequence: bytes.readUInt32BE(8),
    payloadBytes: bytes.readUInt32BE(12),
  };
  return wrongShape(header) ?? header;
}

/** @returns What can be seen to be wrong without knowing the connection. */
function wrongShape({ name, channel, stream, payloadBytes }: FrameHeader): string | undefined {
  const limitBytes = name === "data" ? DATA_LIMIT_BYTES : CLIENT_CONTROL_LIMIT_BYTES;
  if (payloadBytes > limitBytes) return `payload of ${payloadBytes} bytes is over the limit of ${limitBytes}`;
  const hasWrongSize = name === "data" ? payloadBytes === 0 : payloadBytes !== (EXACT_BYTES[name] ?? payloadBytes);
  if (hasWrongSize) return `frame ${name} with a payload of ${payloadBytes} bytes`;
  if (ON_CONNECTION.has(name) !== (stream === 0)) return `frame ${name} on stream ${stream}`;
  if (channel > (WITH_CHANNEL.has(name) ? CHANNEL.stderr : 0)) return `frame ${name} on channel ${channel}`;
  return undefined;
}

/** The sequence number after this one. */
export function nextSequence(sequence: number): number {
  return (sequence + 1) >>> 0;
}
