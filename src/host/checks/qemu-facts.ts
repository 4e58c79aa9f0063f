// What a QEMU binary says about itself, as data. Parsers only; qemu.ts asks.

/** `[major, minor, micro]` of `qemu-system-* --version`, or `undefined` when the text is not QEMU's. */
export function parseQemuVersion(text: string): readonly [number, number, number] | undefined {
  const match = /^QEMU emulator version (\d+)\.(\d+)(?:\.(\d+))?/m.exec(text);
  if (match === null) return undefined;
  return [Number(match[1]), Number(match[2]), Number(match[3] ?? 0)];
}

/** Accelerators of `-accel help`, which lists one name a line below a heading. */
export function parseAccelerators(text: string): readonly string[] {
  return bareWords(text);
}

/** Back ends of `-netdev help`, which lists one name a line below a heading. */
export function parseNetdevTypes(text: string): readonly string[] {
  return bareWords(text);
}

/** Machine names of `-machine help`: the first word of each line, then blanks and a description. */
export function parseMachineNames(text: string): readonly string[] {
  return text.split("\n").flatMap((line) => /^(\S+)\s{2,}\S/.exec(line)?.[1] ?? []);
}

function bareWords(text: string): readonly string[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => /^[a-z0-9-]+$/.test(line));
}
