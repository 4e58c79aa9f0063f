// Bounded waiting for what happens by itself.

/** Longest wait, in milliseconds; generous, for it only matters when a test fails. */
const EVENTUALLY_MS = 30_000;

/** Looks until there is a value; throws after a while. */
export async function eventually<T>(look: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const end = performance.now() + EVENTUALLY_MS;
  for (;;) {
    const value = await look();
    if (value !== undefined) return value;
    if (performance.now() > end) throw new Error(`Nothing within ${EVENTUALLY_MS} ms: ${look.toString()}`);
    await pause(50);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}

/** The error that a promise rejects with; fails when it does not. */
export async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string; details?: unknown }> {
  const outcome = await promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  if ("error" in outcome) return outcome.error as Error;
  throw new Error(`Resolved with ${JSON.stringify(outcome.value)} where an error was expected`);
}
