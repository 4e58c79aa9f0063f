// Downloads one file over HTTP, and goes on where an earlier attempt ended. What it gets is checked by whoever asked: a
// server is trusted with nothing but time, size and patience, all of which are bounded.

import { type FileHandle, open } from "node:fs/promises";
import type { Deadline } from "../../base/deadline.js";
import { sleep } from "../../base/sleep.js";
import { within } from "../../base/within.js";
import { waitError } from "../../errors/wait-errors.js";
import { installError, interruptedError } from "./install-error.js";
import type { WorkDirectory } from "./work-directory.js";

/** How long and how much a download may be. */
export interface DownloadLimits {
  /** Largest file, in bytes. Default 64 MiB; the archive of v1.16.1 has 7.5 MB. */
  readonly sizeBytes: number;
  /** Longest silence of a server, in milliseconds. Default 30 s. */
  readonly silenceMs: number;
  /** How often it is tried when the server or the connection fails. Default 3. */
  readonly attempts: number;
  /** Pause between two attempts, in milliseconds. Default 1 s. */
  readonly pauseMs: number;
}

const DEFAULT_LIMITS: DownloadLimits = { sizeBytes: 64 * 1024 * 1024, silenceMs: 30_000, attempts: 3, pauseMs: 1_000 };

/** What to download, and where to. */
export interface DownloadRequest {
  readonly url: string;
  readonly work: WorkDirectory;
  readonly deadline: Deadline;
  readonly limits?: Partial<DownloadLimits> | undefined;
  /** Receives what is there and, where the server says it, the whole size, in bytes. */
  readonly onBytes?: ((doneBytes: number, totalBytes: number | undefined) => void) | undefined;
}

/** What of the file is there before and after one attempt. */
type Attempt = { readonly isWhole: true } | { readonly isWhole: false; readonly reason: string };

/**
 * Brings the archive of the work directory to its whole length.
 *
 * @returns Whether a piece of an earlier download is in it.
 * @throws {TRANSFER_FAILED} when the server refuses, the file is too large, or every attempt is cut short; in the last
 *   case the piece is worth keeping.
 * @throws {TIMEOUT} {ABORTED} likewise.
 */
export async function download(request: DownloadRequest): Promise<boolean> {
  const { url, work, deadline } = request;
  const limits = { ...DEFAULT_LIMITS, ...request.limits };
  const file = await open(work.archivePath, "a+", 0o600);
  try {
    const { size } = await file.stat();
    let reason = "";
    for (let attempt = 0; attempt < limits.attempts; attempt++) {
      if (attempt > 0) await sleep(Math.min(limits.pauseMs, deadline.remainingMs), deadline.signal);
      if (deadline.isAborted || deadline.hasExpired) throw waitError(`Download of "${url}"`, deadline);
      const result = await new Transfer(request, limits, file).run();
      if (result.isWhole) return size > 0;
      reason = result.reason;
    }
    throw interruptedError(`Cannot download "${url}": ${reason}, in the last of ${limits.attempts} attempts`, { url });
  } finally {
    await file.close();
  }
}

/** One request and what it brings. */
class Transfer {
  readonly #request: DownloadRequest;
  readonly #limits: DownloadLimits;
  readonly #file: FileHandle;
  readonly #connection = new AbortController();

  constructor(request: DownloadRequest, limits: DownloadLimits, file: FileHandle) {
    this.#request = request;
    this.#limits = limits;
    this.#file = file;
  }

  async run(): Promise<Attempt> {
    try {
      const haveBytes = (await this.#file.stat()).size;
      const response = await this.#wait(this.#send(haveBytes));
      return "reason" in response ? response : await this.#take(response, haveBytes);
    } finally {
      this.#connection.abort(); // Whatever is still on its way is of no use.
    }
  }

  async #send(haveBytes: number): Promise<Response> {
    const etag = haveBytes > 0 ? await this.#request.work.readEtag() : undefined;
    return fetch(this.#request.url, {
      signal: this.#connection.signal,
      redirect: "follow",
      headers: {
        "accept-encoding": "identity", // The file as it is, with offsets that count its own bytes.
        ...(haveBytes > 0 ? { range: `bytes=${haveBytes}-` } : {}),
        ...(etag === undefined ? {} : { "if-range": etag }),
      },
    });
  }

  async #take(response: Response, haveBytes: number): Promise<Attempt> {
    const { status } = response;
    if (status === 206 && rangeStart(response) === haveBytes) return this.#receive(response, haveBytes);
    if (status === 200) return this.#receive(response, 0);
    if (status === 206 || status === 416) return this.#startOver(response, haveBytes);
    const said = `the server answers ${status} ${response.statusText}`.trim();
    if (TRANSIENT.has(status)) return { isWhole: false, reason: said };
    const { url } = this.#request;
    throw installError(`Cannot download "${url}": ${said}`, { details: { url, status } });
  }

  /** The server has no such piece: either the file is whole already, or the piece is of another file. */
  async #startOver(response: Response, haveBytes: number): Promise<Attempt> {
    if (haveBytes > 0 && response.headers.get("content-range") === `bytes */${haveBytes}`) return { isWhole: true };
    await this.#file.truncate(0);
    return { isWhole: false, reason: "the server has another piece than the one asked for" };
  }

  async #receive(response: Response, fromBytes: number): Promise<Attempt> {
    const length = Number(response.headers.get("content-length") ?? Number.NaN);
    const totalBytes = Number.isSafeInteger(length) ? fromBytes + length : undefined;
    if (totalBytes !== undefined) this.#checkSize(totalBytes);
    if (fromBytes === 0) {
      await this.#file.truncate(0);
      await this.#request.work.writeEtag(strongEtag(response));
    }
    let doneBytes = fromBytes;
    const body = response.body?.getReader();
    for (;;) {
      const piece = await this.#wait(body?.read() ?? Promise.resolve({ done: true as const, value: undefined }));
      if ("reason" in piece) return piece;
      if (piece.done) break;
      doneBytes += piece.value.length;
      this.#checkSize(doneBytes);
      await this.#file.appendFile(piece.value);
      this.#request.onBytes?.(doneBytes, totalBytes);
    }
    const isWhole = totalBytes === undefined || doneBytes === totalBytes;
    return isWhole ? { isWhole } : { isWhole, reason: `it ends after ${doneBytes} of ${totalBytes} bytes` };
  }

  #checkSize(sizeBytes: number): void {
    if (sizeBytes <= this.#limits.sizeBytes) return;
    const { url } = this.#request;
    throw installError(`Cannot download "${url}": it is larger than ${this.#limits.sizeBytes} bytes`, {
      details: { url, limitBytes: this.#limits.sizeBytes },
    });
  }

  /** Waits for the server; a failed connection and a silent one are reasons to try again. */
  async #wait<T>(work: Promise<T>): Promise<T | Extract<Attempt, { isWhole: false }>> {
    const { deadline } = this.#request;
    const silence = { isWhole: false, reason: `the server is silent for ${this.#limits.silenceMs} ms` } as const;
    const bound = deadline.atMost(this.#limits.silenceMs);
    try {
      const answer = await within(work, bound, () => silence);
      if (answer !== silence || (bound !== deadline && !deadline.isAborted)) return answer;
    } catch (error) {
      return { isWhole: false, reason: `the connection fails: ${connectionError(error)}` };
    }
    throw waitError(`Download of "${this.#request.url}"`, deadline);
  }
}

/** Statuses that may be others a moment later (RFC 9110, RFC 6585). */
const TRANSIENT: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);

/** Where the piece of a `206` begins, in bytes. */
function rangeStart(response: Response): number | undefined {
  const match = /^bytes (\d+)-\d+\/(?:\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
  return match === null ? undefined : Number(match[1]);
}

/** Only a strong one may be in `If-Range` (RFC 9110, section 13.1.5). */
function strongEtag(response: Response): string | undefined {
  const etag = response.headers.get("etag");
  return etag?.startsWith('"') === true ? etag : undefined;
}

/** `fetch` says "fetch failed", and hides why in the cause. */
function connectionError(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const { code } = cause as NodeJS.ErrnoException;
  return code ?? (cause instanceof Error ? cause.message : String(cause));
}
