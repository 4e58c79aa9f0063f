// A kernel for tests: writes a line to the serial port and halts, for ever. It needs no disk and no memory but its own.

/** Where it is loaded, in the guest's physical memory: where kernels are. */
const LOAD_ADDRESS = 0x10_0000;
/** First serial port of a PC. */
const COM1 = 0x3f8;
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;

/**
 * An ELF file for x86_64 that Firecracker boots (elf(5)).
 *
 * @param line ASCII, what it writes.
 */
export function haltingKernel(line = "hello\n"): Buffer {
  const code = Buffer.from([
    ...[0x66, 0xba, COM1 & 0xff, COM1 >> 8], // mov dx, COM1
    ...[...Buffer.from(line, "ascii")].flatMap((byte) => [0xb0, byte, 0xee]), // mov al, byte; out dx, al
    ...[0xf4, 0xeb, 0xfd], // hlt; jmp to it
  ]);
  const start = ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES;
  const header = Buffer.alloc(start);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // 64 bits, little endian
  header.writeUInt16LE(2, 16); // an executable
  header.writeUInt16LE(62, 18); // for x86_64
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(BigInt(LOAD_ADDRESS + start), 24); // entry
  header.writeBigUInt64LE(BigInt(ELF_HEADER_BYTES), 32); // program headers
  header.writeUInt16LE(ELF_HEADER_BYTES, 52);
  header.writeUInt16LE(PROGRAM_HEADER_BYTES, 54);
  header.writeUInt16LE(1, 56);
  const segment = header.subarray(ELF_HEADER_BYTES);
  segment.writeUInt32LE(1, 0); // to be loaded
  segment.writeUInt32LE(5, 4); // readable, executable
  segment.writeBigUInt64LE(BigInt(LOAD_ADDRESS), 16);
  segment.writeBigUInt64LE(BigInt(LOAD_ADDRESS), 24);
  segment.writeBigUInt64LE(BigInt(start + code.length), 32);
  segment.writeBigUInt64LE(BigInt(start + code.length), 40);
  segment.writeBigUInt64LE(0x1000n, 48);
  return Buffer.concat([header, code]);
}
