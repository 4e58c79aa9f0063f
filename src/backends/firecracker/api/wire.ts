// Firecracker's JSON has its names in snake_case (and in kebab-case at the top of its configuration), ours are in
// camelCase. This is the one place that translates; values are never touched.

/** An object as Firecracker reads it. What is `undefined` is left out by JSON. */
export function toWire(value: unknown): unknown {
  return renamed(value, (key) => key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`));
}

/** What Firecracker said, with our names. `null`, its word for what is not there, is left out. */
export function fromWire(value: unknown): unknown {
  return renamed(value, (key) => key.replaceAll(/[-_]([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()));
}

function renamed(value: unknown, rename: (key: string) => string): unknown {
  if (Array.isArray(value)) return value.map((item) => renamed(item, rename));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, item]) => item !== null);
  return Object.fromEntries(entries.map(([key, item]) => [rename(key), renamed(item, rename)]));
}
