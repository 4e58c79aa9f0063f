// The copy of what is in a disk's top layer, as a block job of QEMU: what the disk holds when the job starts, though
// the machine goes on and the job ends later.

import { randomBytes } from "node:crypto";
import { Deadline } from "../../base/deadline.js";
import { isSmolVMError, SmolVMError } from "../../errors/smolvm-error.js";
import { BELOW_NODE, ROOT_NODE } from "./disk-options.js";
import type { QmpCommand, QmpEvent, QmpSession } from "./qmp-session.js";

/** How the names of our jobs and their nodes begin. */
const PREFIX = "copy-";
const NAME_BYTES = 6;
/** How long QEMU may take to give up a job, in milliseconds. */
const CANCEL_LIMIT_MS = 10_000;

export class DiskCopy {
  readonly #session: QmpSession;
  readonly #path: string;
  readonly #name = `${PREFIX}${randomBytes(NAME_BYTES).toString("hex")}`;
  #finished: ((deadline: Deadline) => Promise<QmpEvent>) | undefined;
  #left: ((deadline: Deadline) => Promise<QmpEvent>) | undefined;

  /** @param path An empty layer over what is below the machine's own layer. */
  constructor(session: QmpSession, path: string) {
    this.#session = session;
    this.#path = path;
  }

  /** Lets QEMU open the target; the machine may run. */
  async prepare(deadline: Deadline): Promise<void> {
    // QEMU would wait for the host's disk when it closes the file, which is long while the memory is written beside it.
    const cache = { "no-flush": true };
    const target = {
      driver: "qcow2",
      "node-name": this.#name,
      discard: "unmap",
      cache,
      file: { driver: "file", filename: this.#path, discard: "unmap", cache },
      // The node itself, which is open already: QEMU knows then that zeros hide something and must not be left out.
      backing: BELOW_NODE,
    };
    await this.#session.execute({ execute: "blockdev-add", arguments: target }, deadline);
  }

  /** Starts the copy; what it holds is what the disk holds now, so the machine must stand still. */
  async start(deadline: Deadline): Promise<void> {
    const isOurs = ({ data }: QmpEvent) => data["device"] === this.#name;
    this.#finished = this.#session.watch((event) => event.event === "BLOCK_JOB_COMPLETED" && isOurs(event));
    this.#left = watchEnd(this.#session, this.#name);
    const job = { "job-id": this.#name, device: ROOT_NODE, target: this.#name, sync: "top" };
    await this.#session.execute({ execute: "blockdev-backup", arguments: job }, deadline);
  }

  /**
   * Resolves when the target is complete and QEMU has closed it.
   *
   * @throws {STORAGE_FAILED}
   */
  async finish(deadline: Deadline): Promise<void> {
    const completed = await this.#finished?.(deadline);
    const failure = completed?.data["error"];
    if (failure !== undefined) {
      const path = this.#path;
      throw new SmolVMError("STORAGE_FAILED", `Copying a machine's disk failed at "${path}": ${failure}`, {
        details: { path, reason: failure },
      });
    }
    await this.#left?.(deadline);
    await this.#session.execute(removal(this.#name), deadline);
  }

  /** Gives the copy up, wherever it is. */
  async cancel(): Promise<void> {
    await giveUp(this.#session, this.#name, this.#left);
    await this.#session.execute(removal(this.#name), Deadline.after(CANCEL_LIMIT_MS)).catch(ignoreRefusal);
  }
}

/** Removes jobs and nodes that a program left which was killed while it copied. */
export async function removeLeftCopies(session: QmpSession, deadline: Deadline): Promise<void> {
  const jobs = await session.execute({ execute: "query-block-jobs" }, deadline);
  for (const job of namesIn(jobs, "device")) await giveUp(session, job, watchEnd(session, job));
  const nodes = await session.execute({ execute: "query-named-block-nodes", arguments: { flat: true } }, deadline);
  for (const node of namesIn(nodes, "node-name")) await session.execute(removal(node), deadline).catch(ignoreRefusal);
}

function watchEnd(session: QmpSession, job: string): (deadline: Deadline) => Promise<QmpEvent> {
  return session.watch(
    ({ event, data }) => event === "JOB_STATUS_CHANGE" && data["id"] === job && data["status"] === "null",
  );
}

async function giveUp(session: QmpSession, job: string, left: ReturnType<typeof watchEnd> | undefined): Promise<void> {
  const deadline = Deadline.after(CANCEL_LIMIT_MS);
  try {
    await session.execute({ execute: "block-job-cancel", arguments: { device: job, force: true } }, deadline);
    await left?.(deadline);
  } catch (error) {
    ignoreRefusal(error); // It has ended already.
  }
}

function removal(node: string): QmpCommand {
  return { execute: "blockdev-del", arguments: { "node-name": node } };
}

function ignoreRefusal(error: unknown): void {
  if (!isSmolVMError(error, "INTERNAL")) throw error;
}

/** Our names among what QEMU lists. */
function namesIn(list: unknown, field: string): string[] {
  if (!Array.isArray(list)) return [];
  return list
    .map((entry: unknown) => (entry as Readonly<Record<string, unknown>> | null)?.[field])
    .filter((name): name is string => typeof name === "string" && name.startsWith(PREFIX));
}
