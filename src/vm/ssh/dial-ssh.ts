// Connects to the agent's socket in a guest through the guest's SSH server. The server is known by its key alone, and no
// key is offered but the VM's own.

import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Client, ClientChannel, PublicKeyAuthMethod } from "ssh2";
import type { Deadline } from "../../base/deadline.js";
import { deferred } from "../../base/deferred.js";
import { sleep } from "../../base/sleep.js";
import { within } from "../../base/within.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { throwIfAborted, waitError } from "../../errors/wait-errors.js";
import { AGENT_SOCKET_PATH } from "../../guest/ssh-server.js";
import { SSH_KEY_TYPE } from "./openssh-key.js";
import { guardSsh } from "./ssh-guard.js";
import { SshLane } from "./ssh-lane.js";
import type { SshTarget } from "./ssh-target.js";

/**
 * Tries where the server hangs up before it has said who it is: it starts itself anew when the VM's environment changes.
 */
const DIAL_ATTEMPTS = 5;
/** Between two tries, in milliseconds. */
const DIAL_PAUSE_MS = 200;

/** Why a connection came to nothing. */
type SshFailure = "unreachable" | "host-key" | "authentication" | "agent-socket" | "protocol";

const FAILURES: Readonly<Record<SshFailure, string>> = {
  unreachable: "its SSH server cannot be reached",
  "host-key": "its SSH server has another host key than the VM was given",
  authentication: "its SSH server does not accept the VM's own key",
  "agent-socket": "its SSH server does not connect to the agent",
  protocol: "its SSH server ended the conversation",
};

/**
 * @returns A stream to the guest's agent. Its end is the end of the connection; while it is not `ref`ed it does not keep
 *   the program alive.
 * @throws {SSH_FAILED} with `details.reason`.
 * @throws {TIMEOUT} @throws {ABORTED}
 */
export async function dialSsh(target: SshTarget, deadline: Deadline): Promise<Duplex> {
  for (let attempt = 1; ; attempt++) {
    throwIfAborted(`SSH connection to VM "${target.vmId}"`, deadline.signal);
    try {
      return await dialOnce(target, deadline);
    } catch (error) {
      const isEarly = error instanceof SmolVMError && error.details["reason"] === "unreachable";
      if (!isEarly || attempt === DIAL_ATTEMPTS) throw error;
      await sleep(Math.min(DIAL_PAUSE_MS, deadline.remainingMs), deadline.signal);
      if (deadline.hasExpired || deadline.isAborted) throw waitError(`SSH connection to VM "${target.vmId}"`, deadline);
    }
  }
}

async function dialOnce(target: SshTarget, deadline: Deadline): Promise<Duplex> {
  // Only a program that needs it loads it.
  const { Client } = await import("ssh2");
  const socket = connect({ host: target.host, port: target.port, noDelay: true });
  const client = new Client();
  try {
    const channel = await within(converse(target, socket, client), deadline, () => {
      throw waitError(`SSH connection to VM "${target.vmId}"`, deadline);
    });
    return new SshLane({ socket, client, channel });
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** From the first byte to an open channel. Later errors of the connection close the channel, which says enough. */
async function converse(target: SshTarget, socket: Socket, client: Client): Promise<ClientChannel> {
  const failed = deferred<never>();
  const fail = (reason: SshFailure, cause?: unknown) => failed.reject(sshFailed(target, reason, cause));
  failed.promise.catch(() => {});
  let stage: SshFailure = "unreachable";
  socket.on("error", (error) => fail(stage, error));
  socket.on("close", () => fail(stage));
  const steps = async () => {
    await once(socket, "connect");
    const ready = once(client, "ready");
    // The one method there is: an agent or a password is never asked for.
    const method: PublicKeyAuthMethod = { type: "publickey", username: target.user, key: target.privateKey };
    client.on("error", (error: Error & { readonly level?: string }) => {
      if (error.level === "client-authentication") stage = "authentication";
      fail(stage, error);
    });
    client.on("handshake", () => {
      stage = "protocol";
    });
    client.connect({
      sock: socket,
      username: target.user,
      authHandler: [method],
      // Not compressed: a packet of 35 kB could become one of 35 MB.
      algorithms: { serverHostKey: [SSH_KEY_TYPE], compress: ["none"] },
      hostVerifier: (key: Buffer) => {
        const isKnown = `${SSH_KEY_TYPE} ${key.toString("base64")}` === target.hostKey;
        stage = isKnown ? "protocol" : "host-key";
        return isKnown;
      },
      readyTimeout: 0, // The deadline is enough.
      keepaliveInterval: 0, // A VM that is paused does not answer.
      strictVendor: false,
    });
    guardSsh(socket, client);
    await ready;
    stage = "agent-socket";
    return openChannel(client);
  };
  const opened = steps();
  opened.catch(() => {});
  return Promise.race([
    failed.promise,
    opened.catch((error: unknown) => {
      throw error instanceof SmolVMError ? error : sshFailed(target, stage, error);
    }),
  ]);
}

function openChannel(client: Client): Promise<ClientChannel> {
  const opened = deferred<ClientChannel>();
  client.openssh_forwardOutStreamLocal(AGENT_SOCKET_PATH, (error, channel) => {
    if (error) opened.reject(error);
    else opened.resolve(channel);
  });
  return opened.promise;
}

function sshFailed({ vmId, host, port }: SshTarget, reason: SshFailure, cause: unknown): SmolVMError {
  const said = cause instanceof Error ? `: ${cause.message}` : "";
  return new SmolVMError("SSH_FAILED", `Cannot connect to VM "${vmId}" over SSH: ${FAILURES[reason]}${said}`, {
    details: { vmId, host, port, reason },
    cause,
    hint: reason === "host-key" ? "Something else answers in the VM's place, or its guest changed its key." : undefined,
  });
}
