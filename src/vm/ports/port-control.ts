// Orders to the process that serves a VM's ports.

import { z } from "zod";
import type { Deadline } from "../../base/deadline.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { controlCall } from "../../host/control-call.js";
import { cannotListen } from "../../network/listening-port.js";
import type { HostPort, PortForward } from "../../storage/port-store.js";

const LAST_PORT = 65_535;
const portNumber = z.int().min(1).max(LAST_PORT);
const listening = z.object({ hostPort: portNumber });
const all = z.object({
  ports: z.array(z.object({ hostAddress: z.string(), hostPort: portNumber, guestPort: portNumber })),
});

export class PortControl {
  readonly #vmId: string;
  readonly #socketPath: string;

  constructor(vmId: string, socketPath: string) {
    this.#vmId = vmId;
    this.#socketPath = socketPath;
  }

  /**
   * Makes it listen.
   *
   * @param forward Its `hostPort` may be 0: a free one of the kernel's choosing.
   * @returns The host port.
   * @throws {PORT_IN_USE} {NETWORK_FAILED} with the errno as `details.reason`. @throws {TIMEOUT} {ABORTED}
   */
  async listen({ hostAddress, hostPort, guestPort }: PortForward, deadline: Deadline): Promise<number> {
    const answer = await this.#ask({ op: "listen", hostAddress, hostPort, guestPort }, deadline);
    if (!answer.ok) throw cannotListen({ hostAddress, hostPort }, answer.code);
    return this.#parse(listening, answer).hostPort;
  }

  /** Makes it stop listening. A port that it does not listen on is fine. @throws {NETWORK_FAILED} {TIMEOUT} {ABORTED} */
  async close({ hostAddress, hostPort }: HostPort, deadline: Deadline): Promise<void> {
    const answer = await this.#ask({ op: "close", hostAddress, hostPort }, deadline);
    if (!answer.ok && answer.code !== "ENOENT")
      throw this.#failed(`close ${hostAddress}:${hostPort}`, answer.message, answer.code);
  }

  /** What it listens on. @throws {NETWORK_FAILED} {TIMEOUT} {ABORTED} */
  async list(deadline: Deadline): Promise<readonly PortForward[]> {
    const answer = await this.#ask({ op: "list" }, deadline);
    if (!answer.ok) throw this.#failed("list its ports", answer.message, answer.code);
    return this.#parse(all, answer).ports;
  }

  async #ask(question: Readonly<Record<string, unknown>>, deadline: Deadline) {
    const answer = await controlCall(this.#socketPath, question, deadline);
    if (answer === undefined) throw this.#failed(String(question["op"]), "it ended");
    return answer;
  }

  /** It is hostile as soon as the guest has taken it over. */
  #parse<T>(schema: z.ZodType<T>, answer: unknown): T {
    const parsed = schema.safeParse(answer);
    if (parsed.success) return parsed.data;
    throw this.#failed("give an answer", parsed.error.message);
  }

  #failed(what: string, reason: string, errno?: string): SmolVMError {
    const text = `The process that forwards ports to VM "${this.#vmId}" could not ${what}: ${reason}`;
    return new SmolVMError("NETWORK_FAILED", text, { details: { vmId: this.#vmId, reason, errno } });
  }
}
