// Waiting for several pieces of work, none of which may still be under way afterwards.

/** Waits for all, also when one fails, and then rejects with the first failure if there was one. */
export async function settleAll<T>(work: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(work);
  return Promise.all(work);
}
